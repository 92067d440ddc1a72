"""Models at cluster scope: each machine has its own, and all agree which."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tenure import Cache, running
from tenure.errors import DeclarationError, PlanError, StateError
from tenure.host import EmbeddedValkey
from tenure.models import ModelLoadFailed
from tenure.ops import Degraded
from tests.models.served import agreed
from tests.roster.service import reachable_folder
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tenure.models import Model
    from tests.models.conftest import Pinned
    from tests.models.served import Answer

DEADLINE = 30


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a Valkey that machines share."""
    with reachable_folder() as folder, EmbeddedValkey(folder / "valkey") as server:
        yield server.url()


@pytest.fixture
def deployment(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let what runs be of one deployment, of the test's own."""
    monkeypatch.setenv("TENURE_STATE", url)
    monkeypatch.setenv("TENURE_DEPLOYMENT", f"machines-{abs(hash(tmp_path))}")


@asynccontextmanager
async def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model[int, Answer]]:
    """Run the model on a machine: what machines do not share is in a folder of its own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    async with running(also=[agreed]) as scope:
        yield await scope.get(agreed)


@pytest.fixture
def folders(tmp_path: Path, place: Path) -> list[Path]:
    """Give the folders of three machines, which have the same file in the same place."""
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        folder.mkdir(mode=0o700)
        (folder / "declared").write_text((place / "declared").read_text())
    return made


@pytest.mark.usefixtures("deployment")
async def test_machines_agree_on_a_model(folders: list[Path], monkeypatch: pytest.MonkeyPatch, pinned: Pinned) -> None:
    """A swap on one machine is followed by the other, and by one that joins later, each in a process of its own."""
    one, two, three = folders
    async with machine(one, monkeypatch) as first, machine(two, monkeypatch) as second:
        processes = {(await each(1)).process for each in (first, second)}
        assert len(processes) == 2
        version = await first.swap(pinned("7.txt", "7"))
        await until(lambda: second.version == version)
        assert (await first(3)).times == (await second(3)).times == 21
        async with machine(three, monkeypatch) as third:
            assert (third.version, (await third(4)).times) == (version, 28)
        back = await second.swap(pinned("9.txt", "9"))
        await until(lambda: first.version == back)
        assert (await first(1)).times == 9


@pytest.mark.usefixtures("deployment")
async def test_a_machine_that_cannot_follow_says_so(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, pinned: Pinned
) -> None:
    """Where the model cannot be loaded, the one before goes on, and its health check is degraded until all agree."""
    one, two, _ = folders
    async with machine(one, monkeypatch) as first, machine(two, monkeypatch) as second:
        before = second.version
        with pytest.raises(ModelLoadFailed):
            await first.swap(pinned("word.txt", "word"))
        assert first.version == before
        (two / "refuses").touch()
        await first.swap(pinned("6.txt", "6"))
        async with asyncio.timeout(DEADLINE):
            while (degraded := await second.check()) is None:
                await asyncio.sleep(0.01)
        assert degraded == Degraded(f"{before} is called, as {first.version} could not be loaded on this machine")
        assert ((await first(2)).times, (await second(2)).times) == (12, 4)
        (two / "refuses").unlink()
        await first.swap(pinned("5.txt", "5"))
        await until(lambda: second.version == first.version)
        assert await second.check() is None


@pytest.mark.usefixtures("deployment")
async def test_a_swap_that_nobody_can_be_told_of_is_none(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, pinned: Pinned, url: str
) -> None:
    """Where the choice cannot be kept, the swap raises, and the model before is called again."""
    async with machine(folders[0], monkeypatch) as model, Redis.from_url(url) as server:
        before = model.version
        await server.config_set("maxmemory", 1)
        try:
            with pytest.raises(StateError):
                await model.swap(pinned("two.txt", "8"))  # where the one before was, which cannot be loaded again
        finally:
            await server.config_set("maxmemory", 0)
        assert (await model(1)).times == 2
        await until(lambda: model.version == before)


@pytest.mark.usefixtures("deployment")
async def test_a_choice_that_is_crowded_out_is_made_again(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, pinned: Pinned
) -> None:
    """A machine that calls what was chosen tells it again, where the store has lost it."""
    chosen = Cache("agreed.chosen", scope="cluster")
    async with machine(folders[0], monkeypatch) as model, running(also=[chosen]) as scope:
        declared, store = model.version, await scope.get(chosen)
        await model.swap(pinned("4.txt", "4"))
        assert await store.delete(declared)
        async with asyncio.timeout(DEADLINE):
            while await store.get(declared) is None:
                await asyncio.sleep(0.05)
        assert (await model(1)).times == 4


@pytest.mark.usefixtures("place")
async def test_machines_that_share_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place where they agree, and a name for those who do, a model at cluster scope does not start."""
    monkeypatch.delenv("TENURE_STATE", raising=False)
    with pytest.raises(PlanError, match="say where machines agree on it"):
        async with running(also=[agreed]):
            pass
    monkeypatch.setenv("TENURE_STATE", "valkey://localhost:1")
    monkeypatch.delenv("TENURE_DEPLOYMENT", raising=False)
    with pytest.raises(DeclarationError, match="nothing says which of them belong together"):
        async with running(also=[agreed]):
            pass
