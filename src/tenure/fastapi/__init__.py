"""The only code that reads FastAPI's and Starlette's internals; each reading is behind a check, with a slower path."""
