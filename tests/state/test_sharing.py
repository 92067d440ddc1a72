"""Who shares state with whom: deployments, and the engine that follows from a handle's scope."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI

from tenure import Cache, Counter, Lock, Topic, lifespan, running
from tenure.errors import DeclarationError, PlanError, StartFailed

seen = Cache("seen", scope="host", type=int)
known = Cache("known", scope="cluster", type=int)
nightly = Lock("nightly", scope="host")
readings = Topic("readings", scope="host", type=int)
requests = Counter("requests", scope="host")


@asynccontextmanager
async def two(*handles: Any, **settings: Any) -> AsyncIterator[list[list[Any]]]:
    """Run two apps at once, as two workers do, and give what each has of the handles."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            app = FastAPI(lifespan=lifespan(also=handles, **settings))
            scope = await stack.enter_async_context(running(app))
            found.append([await scope.get(handle) for handle in handles])
        yield found


async def test_apps_of_a_deployment_share_what_is_host_scoped() -> None:
    """With nothing installed or set, workers share caches, locks, topics and counters, and count as one."""
    deployment = f"test-{uuid4().hex}"
    async with two(seen, nightly, readings, requests, deployment=deployment) as (one, other):
        await one[0].set("ada", 1)
        assert await other[0].get("ada") == 1
        async with one[1].hold() as first:
            assert first.token > 0
        async with other[1].hold() as second:
            assert second.token > first.token
        async with other[2].subscribe() as messages:
            await one[2].publish(7)
            assert await anext(messages) == 7
        assert [one[3].add(), other[3].add(), one[3].value] == [1, 2, 2]


async def test_apps_of_two_deployments_never_meet() -> None:
    """The same handles, declared once, are others in another deployment."""
    one, other = (FastAPI(lifespan=lifespan(also=[seen, requests], deployment=f"test-{uuid4().hex}")) for _ in range(2))
    async with running(one) as here, running(other) as there:
        await (await here.get(seen)).set("ada", 1)
        (await here.get(requests)).add()
        assert await (await there.get(seen)).get("ada") is None
        assert (await there.get(requests)).value == 0


async def test_machines_share_by_an_address(url: str) -> None:
    """What is cluster-scoped is kept where `state=` says, within the deployment that is named."""
    sold = Counter("sold", scope="cluster")
    async with two(known, sold, deployment=f"test-{uuid4().hex}", state=url) as (one, other):
        await one[0].set("ada", 1)
        assert await other[0].get("ada") == 1
        assert [one[1].add(), other[1].add()] == [1, 2]  # both are on one machine


async def test_the_environment_says_what_the_program_does_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TENURE_DEPLOYMENT` and `TENURE_STATE` serve a program that names neither."""
    monkeypatch.setenv("TENURE_DEPLOYMENT", f"test-{uuid4().hex}")
    monkeypatch.setenv("TENURE_STATE", url)
    async with two(known) as ((one,), (other,)):
        await one.set("ada", 1)
        assert await other.get("ada") == 1


async def test_a_deployment_is_derived_for_a_host_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing names the deployment, the app's title is in the name that the log says."""
    app = FastAPI(title="Test of Sharing", lifespan=lifespan(also=[requests]))
    with caplog.at_level(logging.INFO, "tenure"):
        async with running(app):
            pass
    assert any(message.startswith("deployment test-of-sharing-") for message in caplog.messages)


async def test_a_cluster_refuses_to_guess_who_belongs_to_it(url: str) -> None:
    """Without a name for the deployment, cluster-scoped state does not start."""
    with pytest.raises(DeclarationError, match="`known` is shared among machines, and nothing says which of them"):
        async with running(FastAPI(lifespan=lifespan(also=[known], state=url))):
            pytest.fail("it started")


async def test_a_cluster_without_an_address_is_refused_for_whoever_needs_it() -> None:
    """The refusal names the handle, the route that needs it, and the setting to add."""
    app = FastAPI(lifespan=lifespan(deployment="test"))

    @app.get("/")
    async def index(known: Annotated[Any, Depends(known)]) -> None:
        raise NotImplementedError

    with pytest.raises(PlanError) as refusal:
        async with running(app):
            pytest.fail("it started")
    assert "`known` has the scope `cluster`, which has no engine here" in str(refusal.value)
    assert "used by GET /" in str(refusal.value)
    assert "TENURE_STATE" in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"state": "http://user:secret@host/"}, "state is to be kept at 'http:…', which is no engine's address"),
        ({"state": "mysql://user:#secret@[db/"}, "state is to be kept at 'mysql:…', which is no engine's address"),
        ({"deployment": "a/b"}, "the deployment 'a/b' cannot be the name of a folder"),
    ],
)
async def test_a_setting_that_cannot_be_is_refused(settings: dict[str, str], refusal: str) -> None:
    """A wrong address or name is refused before the start, without showing a password."""
    with pytest.raises(DeclarationError) as refused:
        async with running(FastAPI(lifespan=lifespan(**settings))):  # type: ignore[arg-type]
            pytest.fail("it started")
    assert refusal in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_an_engine_that_is_away_fails_the_start() -> None:
    """An address at which nothing answers ends the start within the deadline, and the error names it."""
    settings: dict[str, Any] = {"deployment": "test", "state": "valkey://127.0.0.1:1"}
    with pytest.raises(StartFailed, match=r"127\.0\.0\.1:1"):
        async with running(FastAPI(lifespan=lifespan(also=[known], **settings))):
            pytest.fail("it started")
