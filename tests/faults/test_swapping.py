"""`roster swap-model`: another model for all workers, by who may start programs as their user, and by nobody else."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from roster.database import users
from roster.embedder import PACKAGE, WEIGHTS_SHA256
from roster.main import app
from tenure.errors import DeclarationError
from tenure.host.postgres import EmbeddedPostgres
from tenure.lifespan import is_served
from tenure.models import ModelFile
from tests.roster.conftest import new_database
from tests.roster.service import DEADLINE, PROGRAMS, Service, reachable_folder, two_workers

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

pytestmark = pytest.mark.timeout(180)  # real processes, on a machine that may be busy

DECLARED = f"embedder@{WEIGHTS_SHA256[:12]}"
CALLERS = 4
names = (f"swapped-{number}" for number in count())


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """Make a database for the workers."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield new_database(server)


@pytest.fixture(scope="module")
def workers(dsn: str) -> Iterator[tuple[Service, Service]]:
    """Run them."""
    with two_workers(ROSTER_DSN=dsn, ROSTER_POOL_TIMEOUT="2") as workers:
        yield workers


@pytest.fixture(scope="module")
def weights() -> bytes:
    """Read the weights that are declared."""
    return ModelFile.of_package(PACKAGE, "model.onnx", sha256=WEIGHTS_SHA256, format="onnx").read()


def another(folder: Path, weights: bytes, producer: str) -> tuple[Path, str]:
    """Write a model that computes the same, and is another: its producer's name is; give its checksum as well."""
    content = (
        weights + b"\x12" + bytes([len(producer)]) + producer.encode()
    )  # of a field that comes twice the last counts
    path = folder / f"{producer}.onnx"
    path.write_bytes(content)
    path.chmod(0o600)
    return path, hashlib.sha256(content).hexdigest()


@contextmanager
def swapping(
    folder: Path, path: Path, sha256: str, *, program: tuple[str, ...] = ("roster",), **settings: str
) -> Generator[subprocess.Popen[str]]:
    """Run the command in the folder of workers, with their environment."""
    first, *others = program
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROSTER_", "TENURE_"))}
    with subprocess.Popen(
        [PROGRAMS / first, *others, "swap-model", path, "--sha256", sha256],
        cwd=folder,
        env={**inherited, "XDG_RUNTIME_DIR": str(folder / "shared"), "ROSTER_POOL_TIMEOUT": "2", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def swap_model(
    folder: Path, path: Path, sha256: str, *, program: tuple[str, ...] = ("roster",), **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with swapping(folder, path, sha256, program=program, **settings) as process:
        out, errors = process.communicate(timeout=DEADLINE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def version_of(service: Service, dsn: str) -> str:
    """Add a user by a worker, and give which model has embedded the bio."""
    user = {"username": next(names), "email": "new@example.com", "bio": "Plays the lute."}
    added = httpx.post(f"{service.url}/users", json=user, timeout=DEADLINE).raise_for_status().json()
    return versions(dsn, added["id"])[0]


def versions(dsn: str, user_id: int | None = None) -> list[str]:
    """Give which models have embedded the bios of all users, or of one."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT DISTINCT embedding_version FROM users WHERE id = coalesce(%s, id)", [user_id]
        )
        return [version for (version,) in found]


@contextmanager
def load(services: tuple[Service, ...]) -> Generator[Counter[int]]:
    """Search and list, by several callers at once, until the block ends; count the answers by status."""
    ended, statuses = Event(), Counter[int]()

    def ask(number: int) -> Counter[int]:
        mine = Counter[int]()
        with httpx.Client(base_url=services[number % len(services)].url, timeout=DEADLINE) as client:
            for asked in count():
                if ended.is_set():
                    return mine
                path = f"/users/search?q=caller {number} asks {asked}" if asked % 2 else "/users?limit=10"
                mine[client.get(path).status_code] += 1
        return mine

    with ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(ask, number) for number in range(CALLERS)]
        try:
            yield statuses
        finally:
            ended.set()
        for each in asking:
            statuses += each.result()


def test_swaps_under_load_fail_no_request(workers: tuple[Service, Service], dsn: str, weights: bytes) -> None:
    """The model is swapped thrice while users are searched and listed: all are answered, and both workers swap."""
    folder, before = workers[0].folder, DECLARED
    assert [version_of(worker, dsn) for worker in workers] == [DECLARED, DECLARED]
    programs = (("roster",), (Path(sys.executable).name, "-m", "roster"), ("roster",))
    with load(workers) as statuses:
        for number, program in enumerate(programs):
            path, sha256 = another(folder, weights, f"swap-{number}")
            told = swap_model(folder, path, sha256, program=program, ROSTER_DSN=dsn)
            assert told.returncode == 0, told.stderr
            after = f"embedder@{sha256[:12]}"
            assert told.stdout == f"{before} -> {after}\n"
            assert "100%" in told.stderr
            assert [version_of(worker, dsn) for worker in workers] == [after, after]
            assert versions(dsn) == [after]
            before = after
    assert set(statuses) == {200}
    assert statuses[200] > 100
    for worker in workers:
        found = httpx.get(f"{worker.url}/users/search?q=anyone&limit=100", timeout=DEADLINE).json()
        assert len(found) == 100
        assert "Traceback" not in worker.errors


def test_a_file_that_is_not_what_it_is_said_to_be_is_refused(
    workers: tuple[Service, Service], dsn: str, weights: bytes
) -> None:
    """With another checksum, or a pickle, or no network inside: exit code 1, what is wrong, and the model stays."""
    folder = workers[0].folder
    before = version_of(workers[0], dsn)
    path, sha256 = another(folder, weights, "refused")
    hollow, pickled = folder / "hollow.onnx", folder / "pickled.onnx"
    hollow.write_bytes(b"")
    pickled.write_bytes(pickle.dumps(["weights"]))
    checksums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (hollow, pickled)]
    for file, checksum, error in (
        (path, "0" * 64, "error[model-refused]: the model file refused.onnx has the checksum"),
        (pickled, checksums[1], "error[model-refused]: the model file pickled.onnx holds a pickle"),
        (hollow, checksums[0], "error[model-"),
        (folder / "missing.onnx", sha256, "error[model-refused]: the model file missing.onnx cannot be read"),
        (path, sha256.upper(), "error[declaration]: "),
    ):
        told = swap_model(folder, file, checksum, ROSTER_DSN=dsn)
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr.startswith(error), told.stderr
        assert "\nhint: " in told.stderr
        assert "Traceback" not in told.stderr
    assert [version_of(worker, dsn) for worker in workers] == [before, before]


def test_a_write_of_the_model_before_is_embedded_anew(
    workers: tuple[Service, Service], dsn: str, weights: bytes
) -> None:
    """What is written with a vector of the model before, when all bios have been embedded, is looked for once more."""
    path, sha256 = another(workers[0].folder, weights, "late")
    after = f"embedder@{sha256[:12]}"
    with swapping(workers[0].folder, path, sha256, ROSTER_DSN=dsn) as process:
        deadline = time.monotonic() + DEADLINE
        while versions(dsn) != [after]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE users SET embedding_version = 'before' WHERE id = 1")
        assert process.wait(DEADLINE) == 0
    assert versions(dsn) == [after]


def test_without_workers_nothing_is_swapped(tmp_path: Path, weights: bytes) -> None:
    """Where no worker runs the command says so, with exit code 1, and starts nothing."""
    (tmp_path / "shared").mkdir(mode=0o700)
    told = swap_model(tmp_path, *another(tmp_path, weights, "alone"))
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("error[not-running]: no worker of roster runs on this machine")
    assert not (tmp_path / ".var").exists()


def test_only_what_lives_apart_is_looked_for() -> None:
    """Whether workers serve it is no question that can be asked of what each of them has for itself."""
    with pytest.raises(DeclarationError, match="`users` does not live in a process of its own"):
        is_served(app, users)


def test_what_was_swapped_is_forgotten_with_the_last_worker(tmp_path: Path, dsn: str, weights: bytes) -> None:
    """The next start has the model that is declared, and embeds every bio with that."""
    with Service(tmp_path, ROSTER_DSN=dsn, ROSTER_POOL_TIMEOUT="2") as service:
        service.until_ready()
        told = swap_model(tmp_path, *another(tmp_path, weights, "passing"), ROSTER_DSN=dsn)
        assert told.returncode == 0, told.stderr
        assert DECLARED not in versions(dsn)
    with Service(tmp_path, ROSTER_DSN=dsn) as service:
        service.until_ready()
        assert versions(dsn) == [DECLARED]
