"""tenure, and tenure with binding switched off, which is what FastAPI versions that it does not know get."""

from fastapi import Depends, FastAPI

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.depends import Dependencies, enter, enter_overridden, session_on
from benchmarks.subject import FIVE, Service
from tenure import Resource, lifespan, scoped


def app_scoped(kind: type[Service]) -> Resource[Service]:
    """Declare an object that lives as long as the app."""

    @scoped("app", name=kind.__name__)
    async def service() -> Service:
        return kind()

    return service


def declared() -> Dependencies:
    """Declare everything anew, for one app."""
    services = [app_scoped(kind) for kind in FIVE]
    session = session_on(services[0])
    return Dependencies(
        app=lambda: FastAPI(lifespan=lifespan),
        services=services,
        function=Depends(scoped("function")(session)),
        request=Depends(scoped("request")(session)),
    )


BOUND = enter(Contender("tenure", packages=("tenure",), restarts=True), declared)
enter_overridden(BOUND)
UNBOUND = enter(
    Contender("tenure, binding off", packages=("tenure",), environment={"TENURE_BINDING": "off"}, restarts=True),
    declared,
)

CONTENDERS = [BOUND, UNBOUND]
