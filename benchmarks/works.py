"""The work that is measured: what a request wants, when it is closed, and the bar that tenure is held to."""

from dataclasses import dataclass
from enum import StrEnum

PATH = "/object"


class Moment(StrEnum):
    """When a session is closed; each is seen by verification.py, never taken on trust."""

    HANDLER = "when the handler returns, before serialisation"
    SERIALISED = "after serialisation, before the answer"
    ANSWERED = "after the answer"


class Against(StrEnum):
    """What a ratio is to."""

    GLOBALS = "the same route on module globals"
    ITSELF = "the same app without the override"


@dataclass(frozen=True)
class Work:
    """
    One kind of request.

    Attributes:
        id: The word for it in results.json and on the command line.
        title: What tables and pictures call it.
        bar: The highest ratio that tenure may have; None where the bar is FastAPI's own ratio in the same run.
        answer: What is answered under "ok".
        path: Where the route is.
        websocket: Whether it is a websocket's connect, message and close instead of a GET.
        closes: When a session must be closed, if there is one.
        services: How many app-scoped objects there are.
        against: What its ratio is to.
    """

    id: str
    title: str
    bar: float | None
    answer: str = "1"
    path: str = PATH
    websocket: bool = False
    closes: Moment | None = None
    services: int = 1
    against: Against = Against.GLOBALS


ONE = Work("one", "1 app-scoped object", 1.02)
FIVE = Work("five", "5 app-scoped objects", 1.03, answer="12345", services=5)
FUNCTION = Work("function", "function-scoped async generator", 1.10, closes=Moment.SERIALISED)
REQUEST = Work("request", "request-scoped async generator", 1.12, closes=Moment.ANSWERED)
SHARED = Work("shared", "one session for endpoint and dependency", None, closes=Moment.SERIALISED)
INCLUDED = Work("included", "behind `include_router`", 1.02, path="/included" + PATH)
MOUNTED = Work("mounted", "in a mounted app", 1.02, path="/mounted" + PATH)
WEBSOCKET = Work("websocket", "on a websocket", 1.02, websocket=True)
SYNC = Work("sync", "in a `def` handler", 1.02)
ONE_OVERRIDDEN = Work("one-overridden", "1 app-scoped object", 1.03, against=Against.ITSELF)
FIVE_OVERRIDDEN = Work(
    "five-overridden", "5 app-scoped objects", 1.03, answer="12345", services=5, against=Against.ITSELF
)
FUNCTION_OVERRIDDEN = Work(
    "function-overridden",
    "function-scoped async generator",
    1.03,
    closes=Moment.SERIALISED,
    against=Against.ITSELF,
)

MAIN = (ONE, FIVE, FUNCTION, REQUEST)
"""What every library does; the picture shows these."""

NATIVE = (SHARED, INCLUDED, MOUNTED, WEBSOCKET, SYNC)
"""What is a question only for those that are FastAPI's own `Depends`."""

OVERRIDDEN = {ONE_OVERRIDDEN: ONE, FIVE_OVERRIDDEN: FIVE, FUNCTION_OVERRIDDEN: FUNCTION}
"""The same with one entry in `dependency_overrides` that has nothing to do with the request."""

WORKS = (*MAIN, *NATIVE, *OVERRIDDEN)
