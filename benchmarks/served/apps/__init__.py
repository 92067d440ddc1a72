"""Programs that are compared, each served from this folder as a project of its own."""
