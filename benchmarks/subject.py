"""What every contender hands out: app-scoped objects, and a session that is opened and closed around a request."""

from collections.abc import AsyncIterator
from typing import ClassVar


class Service:
    """
    An object that lives as long as the app, as a pool, a client or a model does.

    Attributes:
        name: What the answer shows of it.
        sessions: How many sessions on it are open now.
    """

    made: ClassVar[list["Service"]] = []
    """Every service that was made in this process, so that two of what should be one are noticed."""

    NAME: ClassVar[str] = "1"

    def __init__(self) -> None:
        self.name = self.NAME
        self.sessions = 0
        Service.made.append(self)


class Second(Service):
    """The second of five; libraries that inject by type need a type for each."""

    NAME = "2"


class Third(Service):
    """The third of five."""

    NAME = "3"


class Fourth(Service):
    """The fourth of five."""

    NAME = "4"


class Fifth(Service):
    """The fifth of five."""

    NAME = "5"


FIVE = (Service, Second, Third, Fourth, Fifth)


class Session:
    """What is borrowed from a service, as a connection is from a pool."""

    __slots__ = ("service",)

    def __init__(self, service: Service) -> None:
        self.service = service


async def open_session(service: Service) -> AsyncIterator[Session]:
    """Open a session on a service, and close it in the end."""
    service.sessions += 1
    try:
        yield Session(service)
    finally:
        service.sessions -= 1
