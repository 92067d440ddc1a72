"""What holds for the whole tree, whoever writes in it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tenure

PROJECT = Path(__file__).parents[1]
PACKAGES = ["tenure", *(found.name for found in pkgutil.walk_packages(tenure.__path__, "tenure.") if found.ispkg)]
SOURCES = sorted(path for folder in ("src", "examples") for path in (PROJECT / folder).rglob("*.py"))
LONGEST = 400
MEANS = {"annotations", "TYPE_CHECKING", "names"}
"""What a package imports for itself."""
BROUGHT_BY_TENURE = """
import sys
import anyio, fastapi

def brought():
    return {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names

before = brought()
import tenure, tenure.fastapi.application, tenure.state.cache, tenure.state.lock, tenure.state.topic
print(*sorted(brought() - before))
"""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_names_what_it_offers(name: str) -> None:
    """`__all__` names what a package takes from its modules, for nothing else is imported there; ruff sorts it."""
    package = importlib.import_module(name)
    for offer in getattr(package, "__all__", []):  # some are imported when they are first asked for
        getattr(package, offer)
    offered = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not isinstance(value, ModuleType) and key not in MEANS
    }
    assert sorted(getattr(package, "__all__", [])) == sorted(offered)


def test_modules_are_short() -> None:
    """No module has more lines than can be read at once."""
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > LONGEST] == []


def test_the_core_needs_fastapi_and_anyio_alone() -> None:
    """Importing tenure imports no package that these two have not imported already."""
    command = [sys.executable, "-W", "error", "-c", BROUGHT_BY_TENURE]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "tenure\n"


def test_the_changelog_begins_with_this_version() -> None:
    """A version has its section, and a development version is what is unreleased."""
    newest = re.findall(r"^## \[(.+?)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == ("Unreleased" if ".dev" in tenure.__version__ else tenure.__version__)


@pytest.mark.parametrize("name", ["installer", "run", "dev", "bench"])
def test_pins_name_no_place(name: str) -> None:
    """What is installed can come from any index: no file of pins says where from."""
    assert re.findall(r"^.*(?:://|--find-links|--index|/).*$", pinned(name), re.MULTILINE) == []


def test_the_service_runs_on_what_its_tests_had() -> None:
    """Every package that is pinned for running has the same version and hashes in the tests."""
    assert requirements("run").items() <= requirements("dev").items()


def pinned(name: str) -> str:
    """Give a file of pins without its comments, which name files of this project."""
    lines = (PROJECT / "requirements" / f"{name}.txt").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def requirements(name: str) -> dict[str, str]:
    """Give the hashes of each pinned package and version."""
    found = re.findall(r"^(\S+==\S+)(.*(?:\n .*)*)", pinned(name), re.MULTILINE)
    return {package: re.sub(r"^.*?--hash", "--hash", rest, flags=re.DOTALL) for package, rest in found}
