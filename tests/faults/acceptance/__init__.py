"""Acceptance tests: two machines, each a real server with four workers, and what happens to their shared state."""
