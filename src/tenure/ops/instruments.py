"""The instruments of OpenTelemetry by which tenure tells of apps: one set for each provider of meters."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry import metrics

import tenure
from tenure.ops.models import ABOUT_INFO, INFO, MEASURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

    from tenure.observers import What
    from tenure.ops.models import Measure

    Callback: TypeAlias = Callable[[CallbackOptions], Iterable[Observation]]

if "explicit_bucket_boundaries_advisory" not in signature(metrics.Meter.create_histogram).parameters:
    msg = "opentelemetry-api is older than 1.30: tenure tells it nothing"
    raise ImportError(msg)

POOL, POOL_STATE = "db.client.connection.pool.name", "db.client.connection.state"
LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Bounds of the buckets for what happens once, or in the background; in seconds."""
SHORT = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The same for what each request may do."""


class Observed(Protocol):
    """An app, as it is read when metrics are collected."""

    def ready(self) -> Iterator[Observation]:
        """Observe how long its start took."""
        ...

    def states(self) -> Iterator[Observation]:
        """Observe the states of its resources."""
        ...

    def health(self) -> Iterator[Observation]:
        """Observe its checks."""
        ...

    def connections(self) -> Iterator[Observation]:
        """Observe the connections that its pools have."""
        ...

    def most(self) -> Iterator[Observation]:
        """Observe how many they may have."""
        ...

    def pending(self) -> Iterator[Observation]:
        """Observe who waits for one."""
        ...

    def versions(self) -> Iterator[Observation]:
        """Observe which versions of its models are called."""
        ...

    def models(self, measure: Measure) -> Iterator[Observation]:
        """Observe one measure of its models."""
        ...


class Instruments:
    """
    Those of one provider, shared by all apps that tell it anything.

    Attributes:
        waits: How long borrowers waited.
        uses: How long they had a connection.
        timeouts: How many got none in time.
    """

    def __init__(self, meter: Meter) -> None:
        self._observed: frozenset[Observed] = frozenset()  # never changed in place: it is read in other threads
        self._durations: dict[What, Histogram] = {
            "start": _seconds(meter, "tenure.resource.start.duration", "How long a resource took to start.", LONG),
            "close": _seconds(meter, "tenure.resource.close.duration", "How long a resource took to close.", LONG),
            "check": _seconds(meter, "tenure.resource.check.duration", "How long a health check took.", LONG),
        }
        self.waits = _seconds(meter, "db.client.connection.wait_time", WAITED, SHORT)
        self.uses = _seconds(meter, "db.client.connection.use_time", USED, SHORT)
        self.timeouts = meter.create_counter("db.client.connection.timeouts", "{timeout}", TIMED_OUT)
        gauge, amount = meter.create_observable_gauge, meter.create_observable_up_down_counter
        gauge("tenure.app.ready.duration", [self._each(lambda app: app.ready())], "s", READY)
        gauge("tenure.resource.state", [self._each(lambda app: app.states())], "1", STATE)
        gauge("tenure.resource.health", [self._each(lambda app: app.health())], "1", HEALTH)
        amount("db.client.connection.count", [self._each(lambda app: app.connections())], "{connection}", COUNT)
        amount("db.client.connection.max", [self._each(lambda app: app.most())], "{connection}", MOST)
        amount("db.client.connection.pending_requests", [self._each(lambda app: app.pending())], "{request}", PENDING)
        gauge(INFO, [self._each(lambda app: app.versions())], "", ABOUT_INFO)
        making = {"gauge": gauge, "amount": amount, "counter": meter.create_observable_counter}
        for measure in MEASURES:
            making[measure.kind](measure.name, [self._of_models(measure)], measure.unit, measure.description)

    def add(self, app: Observed) -> None:
        """Read an app from now on."""
        self._observed |= {app}

    def remove(self, app: Observed) -> None:
        """Read it no more."""
        self._observed -= {app}

    def took(self, what: What, seconds: float, about: dict[str, str]) -> None:
        """Record how long something took."""
        if what in self._durations:
            self._durations[what].record(seconds, about)

    def _of_models(self, measure: Measure) -> Callback:
        return self._each(lambda app: app.models(measure))

    def _each(self, observe: Callable[[Observed], Iterator[Observation]]) -> Callback:
        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for app in self._observed:
                yield from observe(app)

        return callback


# Said as the semantic conventions of OpenTelemetry have them, where they do.
WAITED = "The time it took to obtain an open connection from the pool."
USED = "The time between borrowing a connection and returning it to the pool."
TIMED_OUT = "The number of connection timeouts that have occurred trying to obtain a connection from the pool."
COUNT = "The number of connections that are currently in state described by the state attribute."
MOST = "The maximum number of open connections allowed."
PENDING = "The number of current pending requests for an open connection."
READY = "How long it took until all that an app starts was ready."
STATE = "1 for the state in which a resource is, 0 for the others."
HEALTH = "The last result of a health check: 1 if all is well, 0.5 if it is a warning, 0 if it failed."

_by_provider: WeakKeyDictionary[Any, Instruments] = WeakKeyDictionary()


def _seconds(meter: Meter, name: str, description: str, bounds: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)


def instruments_of(provider: MeterProvider | None) -> Instruments:
    """
    Give those of a provider; of the global one, where none is said.

    The global one is known by the object that stands for it before a program sets one, as that leads to it after.
    """
    key: Any = provider
    if provider is None or provider is metrics.get_meter_provider():
        key = _GLOBAL
    found = _by_provider.get(key)
    if found is None:
        meter = metrics.get_meter("tenure", tenure.__version__, None if key is _GLOBAL else provider)
        found = _by_provider[key] = Instruments(meter)
    return found


class _Global:
    """Stands for the global provider, which a program may set after the first app has started."""


_GLOBAL = _Global()
