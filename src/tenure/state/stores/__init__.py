"""Where state is kept: one module for each engine."""
