"""What tests share with nobody: another worker of xdist, another run, or a server that runs beside them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conftest import RunTests
from tenure.state import deployment_name

if TYPE_CHECKING:
    from pathlib import Path

COUNT = """
    def test_it(tenure_session_client):
        assert [tenure_session_client.post("/hits").json() for _ in range(3)] == [1, 2, 3]
"""
SERVER = """
from fastapi.testclient import TestClient
from service import app

with TestClient(app) as client:
    print([client.post("/hits").json() for _ in range(3)])
"""


def test_apart_from_servers_and_workers(pytester: pytest.Pytester, run_tests: RunTests, state_folder: Path) -> None:
    """Each worker of xdist has counts of its own, also where the app names its deployment, and leaves no files."""
    server = pytester.makepyfile(server=SERVER)
    assert pytester.runpython(server).outlines == ["[1, 2, 3]"]
    pytester.makepyfile(COUNT)
    run_tests("--numprocesses", "2", "--dist", "each").assert_outcomes(passed=2)
    assert [folder.name for folder in state_folder.iterdir()] == ["service"]
    assert pytester.runpython(server).outlines == ["[4, 5, 6]"]


def test_apart_from_other_runs(
    pytester: pytest.Pytester, run_tests: RunTests, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run has counts of its own, also where the environment names the deployment."""
    monkeypatch.setenv("TENURE_DEPLOYMENT", "named")
    service = pytester.path / "service.py"
    service.write_text(service.read_text().replace('deployment="service"', ""))
    pytester.makepyfile(COUNT)
    for _ in range(2):
        run_tests().assert_outcomes(passed=1)
    assert list(state_folder.iterdir()) == []


def test_services_leave_nothing(pytester: pytest.Pytester, run_tests: RunTests, state_folder: Path) -> None:
    """What runs for a host-scoped cache ends with the tests, and its files are removed."""
    pytester.makeconftest("""
        import pytest
        from fastapi import Depends
        from service import app
        from tenure import Cache
        from typing import Annotated

        cache = Cache("words", ttl=60, scope="host")

        @app.get("/first")
        async def first(word: str, cache: Annotated[Cache, Depends(cache)]) -> str:
            found = await cache.get("first")
            if found is None:
                await cache.set("first", word)
            return found or word

        @pytest.fixture(params=["ada", "grace"])
        def word(request):
            return request.param
    """)
    pytester.makepyfile("""
        from pathlib import Path
        import os

        def test_it(tenure_client, word):
            assert [tenure_client.get(f"/first?word={each}").json() for each in (word, "other")] == [word, word]
            assert list(Path(os.environ["XDG_RUNTIME_DIR"], "tenure").glob("service-test-*-*/valkey/keeper"))
    """)
    run_tests().assert_outcomes(passed=2)
    assert list(state_folder.iterdir()) == []


def test_waits_for_who_leaves(pytester: pytest.Pytester, run_tests: RunTests, state_folder: Path) -> None:
    """The files of a process that a test has started are removed once that has ended."""
    pytester.makepyfile(child=SERVER.replace("print(", "import time; time.sleep(1.5); print("))
    pytester.makepyfile("""
        import subprocess
        import sys
        import time
        from pathlib import Path
        import os

        import service

        def test_it():
            child = subprocess.Popen([sys.executable, "child.py"], stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 20
            while not list(Path(os.environ["XDG_STATE_HOME"], "tenure").glob("service-test-*/counters/row.0")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            child.returncode = 0  # let it be
    """)
    run_tests().assert_outcomes(passed=1)
    assert list(state_folder.iterdir()) == []


def test_environment_is_restored(
    pytester: pytest.Pytester, run_tests: RunTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is after the run what it was before."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # the inner run has its own
    before = dict(os.environ)
    pytester.makepyfile("def test_it(): ...")
    run_tests(in_process=True).assert_outcomes(passed=1)
    assert dict(os.environ) == before


def test_long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment of any name has one in tests that can be a folder's, and other names have others."""
    long = "a" * 63
    monkeypatch.setenv("TENURE_DEPLOYMENT_SUFFIX", "-test-gw10-abcdef-1234")
    names = {deployment_name(name) for name in ("short", f"{long}b", f"{long}c")}
    assert len(names) == 3
    assert all(name.endswith("-test-gw10-abcdef-1234") and len(name) <= 64 for name in names)
    assert {deployment_name(name) for name in names} == names
