"""Three ways to write one app on a pool of five connections, and the same faults for each."""
