"""`tenure check`: what it finds, how it is told, and that nothing is connected for it."""

from __future__ import annotations

import json
import re
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ROSTER, tenure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.commands import Done

    Command = Callable[..., Done]

HEAD = """
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache, wraps
from typing import Annotated
from fastapi import Depends, FastAPI, Header
from tenure import Counter, lifespan, override, scoped

class Session:
    async def commit(self): ...
    def begin(self): ...
"""
GOOD = """
@scoped("app")
async def pool() -> str:
    return "pool"

app = FastAPI(title="good", lifespan=lifespan(also=[pool]))
"""
BAD = """
@scoped("app")
async def pool(region: Annotated[str, Header()]) -> str:
    return region

def limit() -> int:
    return 10

app = FastAPI(title="bad", lifespan=lifespan)

@app.get("/")
async def index(pool: Annotated[str, Depends(pool)], limit: Annotated[int, Depends(limit)]): ...
"""
AUDIT = """
import sys

FORBIDDEN = ("socket.connect", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec")

def refuse(event, arguments):
    if event in FORBIDDEN:
        with open("{log}", "a") as log:
            print(event, file=log)

sys.addaudithook(refuse)
"""


def write(folder: Path, source: str, name: str = "main.py", head: str = HEAD) -> None:
    """Write a module of a program."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + dedent(source))


def warned(folder: Path, tenure_here: Command, source: str) -> dict[str, list[str]]:
    """Give the names that a check of an app warns of, by code."""
    write(folder, source)
    done = tenure_here("check", "--json")
    found: dict[str, list[str]] = {}
    for warning in json.loads(done.out)["warnings"]:
        found.setdefault(warning["code"], []).append(re.findall("`(.+?)`", warning["message"])[0])
    return found


def test_an_app_without_findings_passes(tmp_path: Path, tenure_here: Command) -> None:
    """An app that can work passes, in one line."""
    write(tmp_path, GOOD)
    assert tenure_here("check") == (0, "no errors, no warnings in 1 dependency\n", "")


def test_errors_come_first_and_are_counted(tmp_path: Path, tenure_here: Command) -> None:
    """Errors come before warnings, the count comes last, and the exit code is 1."""
    write(tmp_path, BAD)
    done = tenure_here("check")
    assert re.findall(r"^(\w+)\[(.+?)\]", done.out, re.MULTILINE) == [
        ("error", "request-data"),
        ("warning", "sync-dependency"),
    ]
    assert done.out.endswith("\n\n1 error, 1 warning in 2 dependencies\n")
    assert (done.code, done.err) == (1, "")


def test_warnings_fail_where_that_is_asked_for(tmp_path: Path, tenure_here: Command) -> None:
    """An app with warnings alone passes, and does not with `--strict`."""
    write(tmp_path, BAD.replace("region: Annotated[str, Header()]", 'region: str = ""'))
    codes = [tenure_here("check", *words).code for words in ([], ["--strict"])]
    assert codes == [0, 1]


def test_the_document(tmp_path: Path, tenure_here: Command) -> None:
    """`--json` prints one document, with all that the text says, whatever the app's modules print."""
    write(tmp_path, 'print("imported")' + BAD)
    done = tenure_here("check", "--json")
    document = json.loads(done.out)
    assert (document["schemaVersion"], document["app"], document["dependencies"]) == (1, "bad", 2)
    [error], [warning] = document["errors"], document["warnings"]
    text = tenure_here("check").out
    for found, kind in ((error, "error"), (warning, "warning")):
        assert f"{kind}[{found['code']}]: {found['message']}\n" in text
        assert "".join(f"  {line}\n" for line in found["path"]) in text
        assert f"hint: {found['hint']}\nsee:  {found['link']}\n" in text
    assert (done.code, done.err) == (1, "imported\n")


def test_nothing_is_connected(tmp_path: Path) -> None:
    """A check of roster opens no connection and starts no program; what would notice it notices a start that does."""
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(AUDIT.format(log=log))
    variables = {"PYTHONPATH": str(tmp_path), "ROSTER_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    assert tenure("check", folder=ROSTER, variables=variables).code == 0
    assert not log.exists()
    write(tmp_path, GOOD.replace('    return "pool"', '    __import__("socket").socket().connect(("127.0.0.1", 1))'))
    assert tenure("start", folder=tmp_path, variables=variables).code == 1
    assert "socket.connect\n" in log.read_text()


def test_what_cannot_be_declared_is_a_finding(tmp_path: Path, tenure_here: Command) -> None:
    """A declaration that is refused at import is told as an error, with its place."""
    write(tmp_path, '@scoped("ap")\nasync def pool(): ...', head="from tenure import scoped\n")
    done = tenure_here("check")
    assert done.out.startswith("error[declaration]: there is no scope 'ap'\n  main.py:2 in <module>\n")
    assert done.out.endswith("\n\n1 error, no warnings\n")
    assert (done.code, done.err) == (1, "")


def test_a_report_that_is_no_list_of_findings(tmp_path: Path, tenure_here: Command) -> None:
    """What keeps an app from starting without being a finding of its graph is an error, too."""
    write(
        tmp_path,
        'hits = Counter("hits", scope="cluster")\napp = FastAPI(lifespan=lifespan(also=[hits], state="valkey://x"))',
    )
    done = tenure_here("check")
    assert (done.code, done.out.splitlines()[-1]) == (1, "1 error, no warnings in 3 dependencies")
    assert done.out.startswith("error[declaration]: `")


def test_an_import_that_fails(tmp_path: Path, tenure_here: Command) -> None:
    """An app that cannot be imported is told by the user's own lines, without a traceback, and the code is 2."""
    write(tmp_path, "import json\ndef read():\n    json.loads('{')\nread()\n", head="")
    done = tenure_here("check")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: `main` cannot be imported: JSONDecodeError: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
        "  main.py:4 in <module>\n    read()\n  main.py:3 in read\n    json.loads('{')\n"
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = (", "  File "),
        ("raise SystemExit('no settings')", "SystemExit: no settings"),
        ("import not_there", "No module named 'not_there'"),
        ("x = 1", "Could not find FastAPI app in module"),
        ("from fastapi import FastAPI\napp = FastAPI()", "the app does not have tenure's lifespan"),
    ],
)
def test_what_is_no_app(tmp_path: Path, tenure_here: Command, source: str, told: str) -> None:
    """What leads to no app with tenure's lifespan is told as such, and the code is 2."""
    write(tmp_path, source, head="")
    done = tenure_here("check")
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_an_extra_that_is_missing(tmp_path: Path) -> None:
    """An app that takes what needs a package which is not installed is told how to install it, and the code is 2."""
    write(tmp_path, "import sys; sys.modules['asyncpg'] = None; import tenure.pools.asyncpg", head="")
    done = tenure("check", folder=tmp_path)  # in a process of its own, as it says that a package is not there
    assert (done.code, done.out) == (2, "")
    assert "pip install 'tenure[asyncpg]'" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["main.py"],
        ["./main.py"],
        ["main"],
        ["main:app"],
        ["-e", "main:app"],
        ["--entrypoint", "inner.deep.web:other"],
        ["inner/deep/web.py"],
        ["inner.deep.web"],
        ["inner/deep/web.py", "--app", "other"],
        ["--app", "app"],
    ],
)
def test_ways_to_name_an_app(tmp_path: Path, tenure_here: Command, words: list[str]) -> None:
    """An app is named by import string, module or path, or found where `fastapi dev` finds it."""
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("app =", "other ="), "inner/deep/web.py")
    for package in ("inner", "inner/deep"):
        write(tmp_path, "", f"{package}/__init__.py", head="")
    assert tenure_here("check", *words) == (0, "no errors, no warnings in 1 dependency\n", "")


def test_the_entrypoint_of_the_project(tmp_path: Path, tenure_here: Command) -> None:
    """`entrypoint` of pyproject.toml names the app, before the files that may have one."""
    write(tmp_path, "raise ImportError", head="")
    write(tmp_path, GOOD, "web.py")
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "web:app"\n')
    assert tenure_here("check").code == 0
    assert tenure_here("check", "main").code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.py"], "there is no file nowhere.py"),
        (["nowhere"], "`nowhere` cannot be imported: ModuleNotFoundError"),
        (["main:missing"], "`main` has no app named `missing`"),
        (["main:limit"], "doesn't seem to be a FastAPI app"),
        ([":app"], "does not say which app"),
        (["main:app", "--app", "app"], "leave --app out"),
        (["main:app", "-e", "main:app"], "--entrypoint says all"),
        (["--nonsense"], "No such option: --nonsense"),
    ],
)
def test_names_that_lead_nowhere(tmp_path: Path, tenure_here: Command, words: list[str], told: str) -> None:
    """A mistake on the command line is told on standard error, and the code is 2."""
    write(tmp_path, BAD)
    done = tenure_here("check", *words, TERMINAL_WIDTH="200")
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("project", "told"),
    [
        ("", "Could not find a default file"),
        ("[tool.fastapi", "pyproject.toml cannot be read"),
        ("[tool.fastapi]\nentrypoint = 1", "is 1, and not `module:app`"),
    ],
)
def test_projects_that_name_no_app(tmp_path: Path, tenure_here: Command, project: str, told: str) -> None:
    """A project that names no app, or not as it should, is told so."""
    (tmp_path / "pyproject.toml").write_text(project)
    done = tenure_here("check")
    assert (done.code, done.out) == (2, "")
    assert told in done.err


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours(tmp_path: Path, tenure_here: Command, variables: dict[str, str], *, has_colour: bool) -> None:
    """What is not read in a terminal has no colours, nor has anything with `NO_COLOR`; they change no word."""
    write(tmp_path, BAD)
    plain = tenure_here("check").out
    shown = tenure_here("check", **variables).out
    assert ("\x1b[1;31m" in shown) is has_colour
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == plain


def test_sync_dependencies(tmp_path: Path, tenure_here: Command) -> None:
    """Of sync dependencies, those are warned of that can only hand out what is there, and are the program's."""
    found = warned(
        tmp_path,
        tenure_here,
        """
        def header(x_user: Annotated[str, Header()]) -> str:
            return x_user
        @lru_cache
        def cached() -> dict:
            return dict(a=1)
        @scoped("request")
        def declared() -> int:
            return 1
        def calls() -> dict:
            return dict(a=1)
        def opens() -> Iterator[int]:
            yield 1
        def wrapping(f):
            @wraps(f)
            def inner(): return f()
            return inner
        @wrapping
        def wrapped() -> int:
            return 1
        @lru_cache
        def by_key(x_key: Annotated[str, Header()]) -> str:
            return str(x_key)
        async def quick() -> int:
            return 1
        class Page:
            def __init__(self, number: int = 1): self.number = number
        def below() -> int:
            return 1
        @scoped("app")
        async def started(below: Annotated[int, Depends(below)]) -> int:
            return below
        app = FastAPI(lifespan=lifespan)
        @app.get("/", dependencies=[*map(Depends, (
            header, cached, declared, calls, opens, wrapped, by_key, quick, Page, started))])
        async def index(): ...
        """,
    )
    assert found == {"sync-dependency": ["header", "cached", "declared"]}


def test_hints_of_sync_dependencies(tmp_path: Path, tenure_here: Command) -> None:
    """What hands out something of the request is not told to live longer."""
    write(tmp_path, BAD.replace("def limit()", "def limit(x_limit: Annotated[int, Header()])"))
    assert "\nhint: write `async def limit`\n" in tenure_here("check").out
    write(tmp_path, BAD)
    assert "\nhint: write `async def limit`, or give it the scope" in tenure_here("check").out


def test_late_commits(tmp_path: Path, tenure_here: Command) -> None:
    """Generators are warned of that commit after the answer: after the `yield`, or where a block around it ends."""
    found = warned(
        tmp_path,
        tenure_here,
        """
        session = Session()
        async def after() -> AsyncIterator[Session]:
            yield session
            await session.commit()
        async def around() -> AsyncIterator[Session]:
            async with session.begin() as begun:
                yield begun
        @scoped("request")
        async def declared() -> AsyncIterator[Session]:
            try:
                yield session
            finally:
                await session.commit()
        def sync() -> Iterator[Session]:
            yield session
            session.commit()
        @scoped("function")
        async def early() -> AsyncIterator[Session]:
            yield session
            await session.commit()
        async def before() -> AsyncIterator[Session]:
            await session.commit()
            async with session.begin():
                await session.commit()
            yield session
        async def only_closes() -> AsyncIterator[Session]:
            async with session:
                yield session
        async def in_time() -> AsyncIterator[Session]:
            yield session
            await session.commit()
        app = FastAPI(lifespan=lifespan)
        @app.get("/", dependencies=[
            *map(Depends, (after, around, declared, sync, early, before, only_closes)),
            Depends(in_time, scope="function")])
        async def index(): ...
        """,
    )
    assert found == {"late-commit": ["after", "around", "declared", "sync"]}


def test_the_line_of_a_late_commit(tmp_path: Path, tenure_here: Command) -> None:
    """The path leads to the line that commits, and the hint fits how the generator is declared."""
    write(
        tmp_path,
        """
        @scoped("request")
        async def declared() -> AsyncIterator[Session]:
            yield Session()

            await Session().commit()
        app = FastAPI(lifespan=lifespan)
        @app.get("/")
        async def index(session: Annotated[Session, Depends(declared)]): ...
        """,
    )
    line = (tmp_path / "main.py").read_text().splitlines().index("    await Session().commit()") + 1
    out = tenure_here("check").out
    assert re.search(rf"└ `commit` .* main\.py:{line}$", out, re.MULTILINE)
    assert 'hint: declare it `@scoped("function")`' in out


def test_two_scopes(tmp_path: Path, tenure_here: Command) -> None:
    """A generator is warned of that one request makes twice, but not one that two routes take differently."""
    found = warned(
        tmp_path,
        tenure_here,
        """
        async def twice() -> AsyncIterator[int]:
            yield 1
        async def apart() -> AsyncIterator[int]:
            yield 1
        async def user(twice: Annotated[int, Depends(twice)]) -> int:
            return 1
        async def made() -> int:
            return 1
        first = scoped("app", name="first")(made)
        second = scoped("request", name="second")(made)
        app = FastAPI(lifespan=lifespan)
        @app.get("/a", dependencies=[Depends(user), Depends(twice, scope="function"), Depends(apart)])
        async def a(): ...
        @app.get("/b", dependencies=[Depends(apart, scope="function"), Depends(first), Depends(second)])
        async def b(): ...
        """,
    )
    assert found == {"two-scopes": ["twice", "first"]}


def test_unused_resources(tmp_path: Path, tenure_here: Command) -> None:
    """Of what outlives requests, that is warned of which nothing in the app takes; what is overridden is taken."""
    write(tmp_path, '@scoped("app")\nasync def elsewhere(): ...\n', "other.py")
    found = warned(
        tmp_path,
        tenure_here,
        """
        from tenure import shutting_down
        import other
        from other import elsewhere
        hits = Counter("hits", scope="app")
        @scoped("app")
        async def named(): ...
        @scoped("app")
        async def below(): ...
        @scoped("app")
        async def taken(below: Annotated[None, Depends(below)]): ...
        @scoped("app")
        async def overridden(): ...
        @scoped("request")
        async def brief(): ...
        app = FastAPI(lifespan=lifespan(also=[named]))
        @app.get("/", dependencies=[Depends(taken), Depends(overridden)])
        async def index(): ...
        app.dependency_overrides[overridden] = lambda: None
        """,
    )
    assert sorted(found.pop("unused-resource")) == ["elsewhere", "hits"]
    assert found == {}
