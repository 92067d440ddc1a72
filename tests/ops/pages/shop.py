"""An app with something of each: a pool, a counter, checks, a plain dependency, and a name that no page may believe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query

from tenure import Counter, lifespan, scoped
from tenure.ops import Degraded, ops_router
from tenure.pools.asyncpg import Connection, pool

EVIL = '<img src=x onerror="window.pwned=1">'

database = pool(os.environ["DATABASE_URL"], min_size=1, max_size=2, name="database")
Database = Annotated[Connection, Depends(database.connection)]

orders = Counter("orders", scope="host")
Orders = Annotated[Counter, Depends(orders)]


def prices() -> dict[str, int]:
    """Give what things cost."""
    return {"tea": 3}


@scoped("app")
async def catalogue(prices: Annotated[dict[str, int], Depends(prices)], database: Database) -> AsyncIterator[list[str]]:
    """Know what there is to be bought."""
    yield list(prices)


@catalogue.health(tags=("shop",))
async def filled(catalogue: list[str]) -> Degraded:
    """Tell whether there is enough of it."""
    return Degraded(f"only {len(catalogue)} to be had")


@scoped("app", name=EVIL)
async def evil(catalogue: Annotated[list[str], Depends(catalogue)]) -> str:
    """Believe </script><script>window.pwned=1</script> nothing."""
    return "evil"


@scoped("request")
async def basket(catalogue: Annotated[list[str], Depends(catalogue)]) -> list[str]:
    """Collect what one visitor buys."""
    return catalogue


def guard(key: Annotated[str, Query()] = "") -> None:
    """Let in who knows the key."""
    if key != "sesame":
        raise HTTPException(403, "not you")


app = FastAPI(title="shop", lifespan=lifespan(also=[evil]))
app.include_router(ops_router())
app.include_router(ops_router(prefix="/guarded", guard=guard))


@app.get("/orders")
async def order(orders: Orders, basket: Annotated[list[str], Depends(basket)]) -> int:
    """Count an order."""
    return orders.add()


@app.get("/slow")
async def slow(database: Database) -> int:
    """Keep a connection for a while."""
    return await database.fetchval("SELECT 1 FROM pg_sleep(2)")


@app.get("/none")
async def none() -> None:
    """Use nothing."""
    await asyncio.sleep(0)
