"""roster with four workers under mixed load, while workers, database and network fail at random."""
