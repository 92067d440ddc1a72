"""roster: a user directory with a shared pool, a shared model and a shared count."""
