"""As one writes it first: the model is called in the event loop."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.models.minilm import Hit, load

search = load()
app = FastAPI()


@app.get("/search")
async def of(q: str) -> list[Hit]:
    """Give the nearest."""
    return search([q])[0]


@app.get("/ping")
async def ping() -> str:
    """Answer at once."""
    return "pong"
