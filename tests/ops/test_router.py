"""What is told below `/ops`, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from tenure import Resource, lifespan, scoped
from tenure.ops import Degraded, ops_router
from tests.ops.asking import answer_of, app_of, check_of, client_of, served

PATHS = ("/ops", "/ops/health", "/ops/graph.json", "/ops/workers.json", "/ops/startup.json")
SECRET = "10.0.0.7 refused alice"  # noqa: S105 (what is told of it)


async def sessions() -> AsyncIterator[dict[str, str]]:
    """Give who is known, by the key that they send."""
    yield {"key-of-ann": "ann", "key-of-bob": "bob"}


async def user(request: Request, sessions: Annotated[dict[str, str], Depends(sessions)]) -> str:
    """Give who asks."""
    name = sessions.get(request.headers.get("x-key", ""))
    if name is None:
        raise HTTPException(401, "who are you?")
    return name


async def operator(user: Annotated[str, Depends(user)]) -> None:
    """Let one of them in."""
    if user != "ann":
        raise HTTPException(403, "not you")


def failing() -> Resource[int]:
    """Declare a resource whose check says what is not for all."""
    resource = scoped("app", name="database")(lambda: 1)

    @resource.health
    async def check(value: int) -> None:
        raise ConnectionRefusedError(SECRET)

    return resource


@pytest.mark.parametrize("path", PATHS)
async def test_in_production_there_is_nothing_below_ops_without_a_guard(path: str) -> None:
    """It is 404, as if there were nothing: `FASTAPI_ENV` is not set by `fastapi run`."""
    async with served(app_of()) as client:
        assert (await client.get(path)).status_code == 404
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_guard_is_an_ordinary_dependency(path: str) -> None:
    """It may have dependencies of its own, and refuses as it likes: 401 to strangers, 403 to who may not."""
    async with served(app_of(guard=operator)) as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers={"x-key": "key-of-bob"})).status_code == 403
        assert (await client.get(path, headers={"x-key": "key-of-ann"})).status_code == 200


async def test_a_guard_may_be_one_of_fastapis_own() -> None:
    """HTTP Basic asks for a name, and what builds on it looks at that."""

    def known(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:
        if credentials.password != "right":  # noqa: S105 (of a test)
            raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})

    async with served(app_of(guard=known)) as client:
        asked = await client.get("/ops/health")
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic")
        assert (await client.get("/ops/health", auth=("ann", "wrong"))).status_code == 401
        assert (await client.get("/ops/health", auth=("ann", "right"))).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_guard_stands_in_development_as_well(path: str, development: None) -> None:
    """A developer sees what others will."""
    async with served(app_of(guard=operator)) as client:
        assert (await client.get(path)).status_code == 401


async def test_probes_have_no_guard() -> None:
    """Who asks them has no name."""
    async with served(app_of(guard=operator)) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_who_may_read_below_ops_is_told_of_each_check() -> None:
    """And of its error; who asks a probe is told of neither."""
    async with served(app_of(failing(), guard=operator)) as client:
        client.headers["x-key"] = "key-of-ann"
        told = await check_of(client, "database")
        assert told["output"] == f"ConnectionRefusedError: {SECRET}"
        assert told["componentId"] == "database"
        for path in ("/readyz", "/readyz?verbose", "/readyz/database", "/readyz/database?verbose"):
            assert SECRET not in (await client.get(path)).text
        assert (await client.get("/readyz")).json() == {"status": "warn"}
        for path in ("/ops/graph.json", "/ops/workers.json"):
            assert SECRET in (await client.get(path)).text


async def test_in_development_probes_tell_all(development: None) -> None:
    """A developer need not look elsewhere."""
    async with served(app_of(failing())) as client:
        await check_of(client, "database")
        for path in ("/readyz", "/readyz?verbose", "/readyz/database"):
            assert SECRET in (await client.get(path)).text


async def test_where_details_are_never_told_there_are_none(development: None) -> None:
    """Neither what a check says nor an error is told to anyone; the status is."""
    async with served(app_of(failing(), details="never")) as client:
        answer = await answer_of(client, "/readyz", lambda answer: answer.json() == {"status": "warn"})
        assert answer.json() == {"status": "warn"}
        assert (await client.get("/ops/health")).json() == {"status": "warn"}
        for path in ("/readyz?verbose", "/ops/graph.json", "/ops/workers.json"):
            text = (await client.get(path)).text
            assert "database" in text
            assert SECRET not in text


async def test_where_details_are_always_told_probes_tell_them() -> None:
    """Whoever wants that says so."""
    async with served(app_of(failing(), details="always")) as client:
        answer = await answer_of(client, "/readyz", lambda answer: SECRET in answer.text)
    assert answer.json()["checks"]["database:responseTime"][0]["status"] == "fail"


async def test_health_is_told_in_the_form_of_the_draft(development: None) -> None:
    """Each check by its name and what was measured, a list of one, with keys of our own beside those of the draft."""
    resource = scoped("app", name="database")(lambda: 1)
    resource.health(tags=("db",), critical=True)(lambda value: Degraded("replica lags 30 s"))
    async with served(app_of(resource)) as client:
        told = await check_of(client, "database")
        answer = await client.get("/ops/health")
        assert (await client.head("/ops/health")).status_code == 200
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"status": "warn", "checks": {"database:responseTime": [told]}}
    assert datetime.fromisoformat(told.pop("time")).tzinfo is not None
    assert told.pop("observedValue") >= 0
    assert told == {
        "componentId": "database",
        "componentType": "component",
        "observedUnit": "ms",
        "status": "warn",
        "output": "replica lags 30 s",
        "scope": "app",
        "critical": True,
        "stale": False,
        "tags": ["db"],
    }


async def test_health_may_be_asked_of_a_group(development: None) -> None:
    """Told are the checks in any of the groups asked for; a group that does not exist is 404, with those that do."""
    database, cache = scoped("app", name="database")(lambda: 1), scoped("app", name="cache")(lambda: 1)
    database.health(tags=("db", "slow"), critical=True)(lambda value: False)
    cache.health(tags=("memory",))(lambda value: True)
    cache.health(name="plain")(lambda value: True)

    async with served(app_of(database, cache)) as client:

        async def told(query: str) -> tuple[int, set[str]]:
            answer = await client.get(f"/ops/health?{query}")
            return answer.status_code, {name.partition(":")[0] for name in answer.json()["checks"]}

        for name in ("database", "cache", "plain"):
            await check_of(client, name)
        assert await told("") == (503, {"database", "cache", "plain"})
        assert await told("tag=memory") == (200, {"cache"})
        assert await told("tag=slow") == (503, {"database"})
        assert await told("tag=slow&tag=memory") == (503, {"database", "cache"})
        strange = await client.get("/ops/health?tag=memry")
    assert strange.status_code == 404
    assert strange.json()["output"] == "there is no group 'memry'; there are db, memory, slow"


async def test_a_snapshot_has_the_checks(development: None) -> None:
    """A resource that is ready and whose check does not pass is degraded."""
    resource = failing()
    resource.health(name="rows", tags=("db",))(lambda value: True)
    async with served(app_of(resource)) as client:
        for name in ("database", "rows"):
            await check_of(client, name)
        nodes = (await client.get("/ops/graph.json")).json()["nodes"]
    told = next(node for node in nodes if node["name"] == "database")
    assert (told["state"], told["health"]) == ("degraded", "fail")
    assert [(check["name"], check["status"], check["tags"]) for check in told["checks"]] == [
        ("database", "fail", []),
        ("rows", "pass", ["db"]),
    ]


async def test_the_start_is_told(development: None) -> None:
    """What began when, how long it took, and what each waited for."""

    @scoped("app")
    async def settings() -> str:
        return "settings"

    @scoped("app")
    async def database(settings: str = Depends(settings)) -> str:
        return settings

    async with served(app_of(database)) as client:
        told = (await client.get("/ops/startup.json")).json()
    events = {event["resource"]: event for event in told["events"]}
    assert [events[name]["parent"] for name in ("settings", "database")] == [None, "settings"]
    assert {event["outcome"] for event in events.values()} == {"ready"}
    times = [told["startTime"], events["settings"]["endTime"], events["database"]["startTime"], told["readyTime"]]
    assert times == sorted(times)
    assert all(event["duration"] >= 0 for event in told["events"])
    starts = [event["startTime"] for event in told["events"]]
    assert starts == sorted(starts)


async def test_a_start_that_failed_is_told(development: None) -> None:
    """While a server serves on, one can see where it ended."""

    @scoped("app")
    async def model() -> str:
        raise FileNotFoundError(SECRET)

    app = FastAPI(lifespan=lifespan(also=[model], start="background"))
    app.include_router(ops_router(details="never"))
    async with client_of(app) as client, app.router.lifespan_context(app):
        await answer_of(client, "/livez", lambda answer: answer.status_code == 503)
        answer = await client.get("/ops/startup.json")
    told = answer.json()
    assert told["readyTime"] is None
    assert {event["resource"]: event["outcome"] for event in told["events"]}["model"] == "failed"
    assert SECRET not in answer.text
