"""What type checkers make of tenure."""
