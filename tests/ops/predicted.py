"""The app with models, as tests run it, and what they ask it for."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.ops.pages.servers import DEADLINE, Server

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

WORKERS = 2
MOST_WAITING = 20
"""As many items as the queue of `embedder` takes."""


class Predicting(Server):
    """The app `predicting` in two workers, with files for its models, the factor 2 at first."""

    def __init__(self) -> None:
        self.models = Path(tempfile.mkdtemp(prefix="models-"))
        (self.models / "two.sha256").write_text(self.written("two.txt", "2"))
        super().__init__("predicting", workers=WORKERS, MODELS=str(self.models))
        self._clients = ThreadPoolExecutor(2 * MOST_WAITING)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.go()
        self._clients.shutdown()
        super().__exit__(kind, error, traceback)
        shutil.rmtree(self.models)

    def written(self, name: str, content: str) -> str:
        """Write a model's file, and give its checksum."""
        (self.models / name).write_text(content)
        (self.models / name).chmod(0o600)
        return hashlib.sha256(content.encode()).hexdigest()

    def ask(self, path: str) -> int:
        """Ask any worker, and give its answer."""
        answer: int = httpx.get(f"{self.url}{path}", timeout=DEADLINE).raise_for_status().json()
        return answer

    def ask_each(self, path: str, times: int) -> int:
        """Ask until each worker has answered so often at least, and tell how often in all."""
        counts: dict[int, int] = {}
        while len(counts) < WORKERS or min(counts.values()) < times:
            with httpx.Client(base_url=self.url, timeout=DEADLINE) as client:  # one connection, so one worker
                worker = client.get("/process").json()
                client.get(path).raise_for_status()
            counts[worker] = counts.get(worker, 0) + 1
        return sum(counts.values())

    def hold(self, items: int) -> list[Future[httpx.Response]]:
        """Let items wait behind one that is computed until `go`."""
        (self.models / "go").unlink(missing_ok=True)
        first = self._clients.submit(httpx.get, f"{self.url}/embed/999", timeout=DEADLINE)
        self.until(lambda told: all(model["running"] for model in models_of(told, "embedder")))
        rest = [self._clients.submit(httpx.get, f"{self.url}/embed/1", timeout=DEADLINE) for _ in range(items)]
        return [first, *rest]

    def go(self) -> None:
        """Compute what is held."""
        (self.models / "go").touch()

    def swap(self, factor: str) -> str:
        """Swap the model for another factor, and give its version."""
        sha256 = self.written(f"{factor}.txt", factor)
        answer = httpx.post(f"{self.url}/swap", params={"name": f"{factor}.txt", "sha256": sha256}, timeout=DEADLINE)
        version: str = answer.raise_for_status().json()
        return version


def models_of(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Give what each worker tells of a model."""
    nodes = [node for worker in told["workers"] for node in worker["nodes"] if node["name"] == name]
    return [node["model"] for node in nodes]
