"""A small project of a user's, with an app and pytest's options, in which pytest is run with the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import fastapi.testclient  # noqa: F401 (what is imported here stays, where tests run in this process)
import pytest

import tenure.pytest_plugin.apps
import tenure.pytest_plugin.explanations
import tenure.pytest_plugin.runs  # noqa: F401

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket
from tenure import Counter, lifespan, scoped

events: list[str] = []


@scoped("app")
async def database() -> AsyncIterator[str]:
    events.append("opened")
    yield "real"
    events.append("closed")


Database = Annotated[str, Depends(database)]
hits = Counter("hits", scope="host", durable=True)
mounted = FastAPI()
app = FastAPI(lifespan=lifespan(deployment="service"))
app.mount("/mounted", mounted)


@app.get("/database")
@mounted.get("/database")
async def which(database: Database) -> str:
    return database


@app.websocket("/live")
async def live(socket: WebSocket, database: Database) -> None:
    await socket.accept()
    await socket.send_text(database)
    await socket.close()


@app.post("/hits")
async def hit(hits: Annotated[Counter, Depends(hits)]) -> int:
    return hits.add()
"""

OPTIONS = """
[pytest]
tenure_app = service:app
pythonpath = .
addopts = -p tenure -p xdist -p anyio.pytest_plugin -p pytest_asyncio.plugin -p no:cacheprovider --strict-markers
asyncio_default_fixture_loop_scope = function
"""


class RunTests(Protocol):
    """Runs the project's tests, in this process or in one of their own."""

    def __call__(self, *arguments: str, in_process: bool = False) -> pytest.RunResult:
        """Give what came of it."""
        ...


@pytest.fixture
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which all deployments of this machine keep their files, in memory and on disk."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.delenv("TENURE_DEPLOYMENT", raising=False)
    return folder / "tenure"


@pytest.fixture
def run_tests(pytester: pytest.Pytester, state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunTests:
    """Run the project's tests; beside them it has `service.py` and `pytest.ini`."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins take most of the time
    pytester.makepyfile(service=SERVICE)
    pytester.makefile(".ini", pytest=OPTIONS)

    def run(*arguments: str, in_process: bool = False) -> pytest.RunResult:
        if in_process:
            return pytester.runpytest_inprocess(*arguments)
        return pytester.runpytest_subprocess(*arguments, timeout=50)

    return run
