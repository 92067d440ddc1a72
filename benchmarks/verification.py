"""What is asserted of a case before it is timed: that it does the work, and closes when it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from benchmarks.driver import Client, started
from benchmarks.subject import FIVE, Service
from benchmarks.works import Moment

if TYPE_CHECKING:
    from benchmarks.cases import Case


class NotTheWork(Exception):
    """A case does not do what it says it does."""


class Witness:
    """A value that notices when it is serialised, as FastAPI's encoder tries what it does not know as a mapping."""

    def __init__(self, service: Service, seen: dict[str, int]) -> None:
        self.service = service
        self.seen = seen

    def keys(self) -> tuple[()]:
        """Notice how many sessions are open."""
        self.seen["serialised"] = self.service.sessions
        return ()

    def __getitem__(self, key: object) -> object:
        raise KeyError(key)


async def verify(case: Case) -> None:
    """
    Start an app of a case, send it requests, and close it.

    Raises:
        NotTheWork: It answers something else, makes an object twice, or closes at another moment than it says.
    """
    before = len(Service.made)
    app = case.build()
    with case.environment():
        async with started(app) as state:
            case.after_start(app)
            client = Client(app, case.work, state)
            answers = [await client.answer() for _ in range(3)]
            services = Service.made[before:]
            expect(case, "answers", answers, [{"ok": case.work.answer}] * 3)
            # What declares five, uses what the work wants; unused ones may be there.
            used = [service for service in services if type(service) in FIVE[: case.work.services]]
            expect(case, "makes", [type(each).__name__ for each in used], [e.__name__ for e in FIVE[: len(used)]])
            expect(case, "makes objects", len(used), case.work.services)
            if case.closes is not None:
                expect(case, "closes", await closing(client, used[0]), case.closes)


async def closing(client: Client, service: Service) -> Moment | str:
    """See when the session of one request is closed."""
    seen: dict[str, int] = {"before": service.sessions}
    service.name = cast("str", Witness(service, seen))
    await client.answer(lambda message: seen.__setitem__(message, service.sessions))
    service.name = service.NAME
    seen["after"] = service.sessions
    moments = {
        (0, 0, 0): Moment.HANDLER,
        (1, 0, 0): Moment.SERIALISED,
        (1, 1, 1): Moment.ANSWERED,
    }
    open_at = (seen["serialised"], seen["http.response.start"], seen["http.response.body"])
    if seen["before"] or seen["after"] or open_at not in moments:
        return f"at no moment that is known: sessions open at each step were {seen}"
    return moments[open_at]


def expect(case: Case, what: str, actual: object, expected: object) -> None:
    """Refuse a case that is not as expected."""
    if actual != expected:
        msg = f"{case} {what} {actual!r} instead of {expected!r}"
        raise NotTheWork(msg)
