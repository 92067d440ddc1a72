"""Declarations whose annotations are all strings, as `from __future__ import annotations` makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header

from tenure import lifespan, scoped


@scoped("app")
async def base(start: Start) -> int:
    """Make a number from one that is declared further down."""
    return start + 1


@scoped("app")
async def start() -> int:
    """Make a number."""
    return 1


@scoped("request")
async def sum_of(base: Base, more: More = 0) -> AsyncIterator[list[int]]:
    """Give both numbers."""
    yield [base, more]


Start = Annotated[int, Depends(start)]
Base = Annotated["int", Depends(base)]
More = Annotated[int, Header()]

app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index(sum_of: Annotated[list[int], Depends(sum_of)]) -> list[int]:
    """Answer both."""
    return sum_of
