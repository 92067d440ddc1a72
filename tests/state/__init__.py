"""State that is shared."""
