"""The apps that are compared; all have the same routes."""
