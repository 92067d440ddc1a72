"""As one writes it next: FastAPI calls the model in one of its 40 threads."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.models.minilm import Hit, load

search = load()
app = FastAPI()


@app.get("/search")
def of(q: str) -> list[Hit]:
    """Give the nearest."""
    return search([q])[0]


@app.get("/ping")
async def ping() -> str:
    """Answer at once."""
    return "pong"
