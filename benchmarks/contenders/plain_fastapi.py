"""FastAPI's own dependencies: `async def`, and `def` with `lru_cache` as its documentation teaches for settings."""

from collections.abc import Callable
from functools import lru_cache

from fastapi import Depends, FastAPI

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.depends import Dependencies, Dependency, enter, enter_overridden, session_on
from benchmarks.subject import FIVE, Service


def in_the_loop(kind: type[Service]) -> Dependency:
    """Hand out a global without a hop to a thread."""
    service = kind()

    async def give() -> Service:
        return service

    return give


def cached(kind: type[Service]) -> Dependency:
    """Make it when it is first wanted; FastAPI asks the cache in a thread."""

    @lru_cache
    def give() -> Service:
        return kind()

    return give


def declared(handing_out: Callable[[type[Service]], Dependency]) -> Dependencies:
    """Declare everything anew, for one app."""
    services = [handing_out(kind) for kind in FIVE]
    session = session_on(services[0])
    return Dependencies(FastAPI, services, Depends(session, scope="function"), Depends(session))


ASYNC = enter(Contender("FastAPI, async def", packages=("fastapi",)), lambda: declared(in_the_loop))
enter_overridden(ASYNC)
CACHED = Contender("FastAPI, def + lru_cache", packages=("fastapi",))
for work in works.MAIN:
    CACHED.does(work, enter(Contender("", ()), lambda: declared(cached)).entries[work].build)

CONTENDERS = [ASYNC, CACHED]
