"""What a scope costs: tenure beside module globals, FastAPI itself and other libraries, on the same work."""
