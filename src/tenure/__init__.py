"""tenure: the scopes that FastAPI lacks, with plain `Depends` and `Annotated`."""

__version__ = "0.1.0.dev0"
