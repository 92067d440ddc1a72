"""Where a deployment's state lies: one place for all its workers, which is nobody else's."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tenure.errors import DeclarationError, StateMismatch, StateUnavailable
from tenure.state import deployed, deployment_name, deployments
from tenure.state.deployments import current_deployment
from tenure.state.stores import places
from tenure.state.stores.places import settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMED = "from tenure.state import deployment_name; print(deployment_name())"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without what the machine says of places."""
    tmp_path.chmod(0o700)
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "TENURE_DEPLOYMENT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(places, "SHARED_MEMORY", tmp_path / "shm")
    monkeypatch.setattr(places, "ROOTS_STATE", tmp_path / "lib")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for name in ("shm", "temporary", "run"):
        (tmp_path / name).mkdir()


def test_the_runtime_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State that ends with its workers lies where the system keeps such, for this user alone."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folder = settled("roster", "counters")
    assert folder == tmp_path / "run" / "tenure" / "roster" / "counters"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (folder, folder.parent, folder.parent.parent)} == {0o700}
    assert settled("roster", "counters") == folder


@pytest.mark.parametrize("named", ["", "run", "/nowhere", "/proc/self/mem/x"])
def test_shared_memory_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Where there is no such folder, it lies in shared memory, with the user's number in the name."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", named)
    assert settled("roster", "counters") == tmp_path / "shm" / f"tenure-{os.geteuid()}" / "roster" / "counters"


def test_another_users_runtime_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `su` leaves in the environment does not lead into the folder of whoever has called it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(StateMismatch, match="belongs to the user") as caught:
        settled("roster", "counters")
    assert caught.value.path == (str(tmp_path / "shm" / "tenure-4242"),)


def test_the_temporary_folder_comes_last(tmp_path: Path) -> None:
    """Where there is no shared memory, it lies with temporary files."""
    (tmp_path / "shm").rmdir()
    place = tmp_path / "temporary" / f"tenure-{os.geteuid()}"
    assert settled("roster", "counters") == place / "roster" / "counters"


def test_durable_state_lies_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is durable lies where the system or its users keep what programs remember."""
    ours = ("tenure", "roster", "counters")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    unnamed = (tmp_path / "lib") if os.geteuid() == 0 else tmp_path / "home" / ".local" / "state"
    assert settled("roster", "counters", durable=True) == unnamed.joinpath(*ours)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert settled("roster", "counters", durable=True) == (tmp_path / "state").joinpath(*ours)


def test_a_user_keeps_durable_state_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not root keeps it at home, and one without a home is told what to set."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(StateMismatch) as mismatch:  # made by whoever runs the tests, who is not 4242
        settled("roster", "counters", durable=True)
    assert mismatch.value.path == (str(tmp_path / "home" / ".local" / "state" / "tenure"),)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(StateUnavailable, match="this user has no home") as unavailable:
        settled("roster", "counters", durable=True)
    assert unavailable.value.hint == "set XDG_STATE_HOME to a folder of this user, the same for all workers"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.symlink_to(path.parent.parent / "run"), "is a link"),
        (lambda path: path.mkdir() or path.chmod(0o777), "may be written to by other users"),
    ],
)
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, prepare: Callable[[Path], None], message: str) -> None:
    """What somebody else could have put there, or could change, is not used, and left as it is."""
    path = tmp_path / "shm" / f"tenure-{os.geteuid()}"
    prepare(path)
    with pytest.raises(StateMismatch, match=message) as caught:
        settled("roster", "counters")
    assert caught.value.path == (str(path),)
    assert caught.value.hint.endswith("set XDG_RUNTIME_DIR to a folder of this user, the same for all workers")
    assert list(path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where, why, and which setting chooses another place."""
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(StateUnavailable, match="cannot be made: Not a directory") as caught:
        settled("roster", "counters", durable=True)
    assert caught.value.hint == "set XDG_STATE_HOME to a folder of this user, the same for all workers"


# --- deployments ------------------------------------------------------------------------------------------------------


def test_the_program_names_the_deployment_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said in the program comes first, then the variable."""
    monkeypatch.setenv("TENURE_DEPLOYMENT", "blue")
    assert (deployment_name("green", title="Roster"), deployment_name(title="Roster")) == ("green", "blue")


def test_an_unnamed_deployment_is_that_of_user_project_and_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers of an app have one name; another title, project or user has another."""
    name = deployment_name(title="The Roster!")
    assert re.fullmatch(r"the-roster-[0-9a-f]{12}", name)
    assert re.fullmatch(r"app-[0-9a-f]{12}", deployment_name())
    assert name == deployment_name(title="The Roster!") != deployment_name(title="The Roster?")
    monkeypatch.setattr(deployments, "PROJECT_FOLDER", tmp_path)
    another_project = deployment_name(title="The Roster!")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert len({name, another_project, deployment_name(title="The Roster!")}) == 3


@pytest.mark.parametrize("file", ["pyproject.toml", "setup.py", ".git"])
def test_a_project_is_one_from_any_folder_of_it(tmp_path: Path, file: str) -> None:
    """A worker that starts in a folder of the project belongs to the project's deployment; so does one at its root."""
    inner = tmp_path / "src" / "app"
    inner.mkdir(parents=True)
    (tmp_path / file).touch()
    names = {
        subprocess.run([sys.executable, "-c", NAMED], cwd=folder, check=True, capture_output=True).stdout
        for folder in (tmp_path, inner)
    }
    assert len(names) == 1
    assert names != {deployment_name().encode() + b"\n"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "ä", "a" * 65])
def test_a_name_that_cannot_be_a_folders_is_refused(name: str) -> None:
    """A deployment never leads out of its place."""
    with pytest.raises(DeclarationError, match="cannot be the name of a folder"), deployed(name):
        pytest.fail("it was taken")


def test_a_deployment_holds_for_a_block() -> None:
    """What starts in a block belongs to the block's deployment, the innermost where there are several."""
    before = current_deployment()
    with deployed("outer"):
        with deployed("inner"):
            assert current_deployment() == "inner"
        assert current_deployment() == "outer"
    assert current_deployment() == before == deployment_name()
