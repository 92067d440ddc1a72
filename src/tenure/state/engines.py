"""Engines as resources, the address that some are made of, and the bounds that all of them have."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import Depends

from tenure.errors import DeclarationError
from tenure.resources import Resource
from tenure.state.deployments import current_state

if TYPE_CHECKING:
    from tenure.scopes import ScopeName

T_co = TypeVar("T_co", covariant=True)

LARGEST_VALUE = 1024 * 1024
"""Bytes that a value or a message may have, unless a handle says otherwise."""


LARGEST_KEY = 512
"""Bytes that a key may have, in UTF-8."""


class Missed(Enum):
    """What stands among the messages of a topic where some may have been lost: `MISSED`, told by ``is``."""

    MISSED = "MISSED"

    def __repr__(self) -> str:
        return "MISSED"


MISSED: Final = Missed.MISSED
"""The only one there is; an enumeration's, so that type checkers know what is left after ``if message is MISSED``."""


class EngineResource(Resource[T_co]):
    """An engine, which is there when a handle needs it: what is missing is said of the handle."""

    @property
    def is_done_once(self) -> bool:
        """Not: each process has an engine of its own on what is shared."""
        return False

    @property
    def holds_as(self) -> ScopeName:
        """As what lives in a process, which it does: it may be made of the app's pool."""
        return "app"

    def lacks(self, state: str | None) -> str:
        """Say nothing."""
        del state
        return ""


class Address:
    """
    Where machines share state.

    Attributes:
        url: The engine's address, with its password.
        pool: The app's own `asyncpg.Pool` on it, if calls are to go through that.
    """

    def __init__(self, url: str, pool: Any = None) -> None:  # noqa: ANN401 (asyncpg need not be installed)
        self.url = url
        self.pool = pool


async def _address() -> Address:
    return Address(current_state() or "")


state_address: Resource[Address] = EngineResource(_address, scope="cluster", name="state's address")


def address_by(pool: Resource[Any]) -> Resource[Address]:
    """Give what stands in for `state_address` where state is kept by way of a pool of the app's."""

    async def by_pool(pool: Any = Depends(pool)) -> Address:  # noqa: ANN401, B008 (FastAPI's way)
        try:
            return Address(pool.settings.dsn, pool.driver_pool)
        except AttributeError:
            msg = f"state is to be kept by way of {type(pool).__name__}, which is no pool of tenure's"
            raise DeclarationError(msg, hint="declare it by `tenure.pools.asyncpg.pool`, or give an address") from None

    return EngineResource(by_pool, scope="cluster", name="state's address", location=pool.location)
