"""Pools that survive: a deadline on every wait, no deadlock, and everyone who holds a connection is known by name."""
