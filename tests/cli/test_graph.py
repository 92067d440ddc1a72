"""`tenure graph`: what it draws, as a tree and for other programs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.cli.test_check import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.commands import Done

    Command = Callable[..., Done]

PROGRAM = """
from tenure import Cache, shutting_down

@scoped("app")
async def settings() -> str:
    return "settings"

@scoped("app")
async def pool(settings: Annotated[str, Depends(settings)]) -> str:
    return settings

@scoped("request")
async def session(pool: Annotated[str, Depends(pool)]) -> AsyncIterator[str]:
    yield pool

async def user(session: Annotated[str, Depends(session)], settings: Annotated[str, Depends(settings)]) -> str:
    return session

@scoped("app")
async def scheduler(
    pool: Annotated[str, Depends(pool)],
    again: Annotated[str, Depends(pool)],
    stop: Annotated[object, Depends(shutting_down)]
) -> None: ...

app = FastAPI(title="shop", lifespan=lifespan(also=[scheduler]))

@app.get("/users")
async def users(user: Annotated[str, Depends(user)]): ...

@app.get("/orders")
async def orders(user: Annotated[str, Depends(user)]): ...

@app.post("/orders")
async def order(session: Annotated[str, Depends(session)]): ...
"""


def places(folder: Path, text: str) -> str:
    """Put the line of each function of the program where a text names it."""
    lines = (folder / "main.py").read_text().splitlines()
    first = {found[1]: n + 1 for n, line in enumerate(lines) if (found := re.match(r"(?:async )?def (\w+)", line))}
    decorated = {name: n - 1 if lines[n - 2].startswith("@scoped") else n for name, n in first.items()}
    return re.sub(r"<(\w+)>", lambda found: f"main.py:{decorated[found[1]]}", text)


def test_the_tree_by_route(tmp_path: Path, tenure_here: Command) -> None:
    """Below each group of routes stands what they need, and what was drawn above is not drawn again."""
    write(tmp_path, PROGRAM)
    done = tenure_here("graph")
    expected = """\
GET /users
GET /orders
└── user  <user>
    ├── session  request  <session>
    │   └── pool  app  <pool>
    │       └── settings  app  <settings>
    └── settings  app  <settings>
POST /orders
└── session  request  (as above)
also=[…]
└── scheduler  app  <scheduler>
    └── pool  app  (as above)
"""
    assert done.out == places(tmp_path, expected)
    assert (done.code, done.err) == (0, "1 of tenure's own is folded: --all\n")


def test_the_tree_by_resource(tmp_path: Path, tenure_here: Command) -> None:
    """By resource, what needs nothing stands on top, and below it who needs it, down to the routes."""
    write(tmp_path, PROGRAM)
    expected = """\
settings  app  <settings>
├── pool  app  <pool>
│   ├── scheduler  app  <scheduler>
│   │   └── also=[…]
│   └── session  request  <session>
│       ├── POST /orders
│       └── user  <user>
│           ├── GET /users
│           └── GET /orders
└── user  (as above)
"""
    assert tenure_here("graph", "--by", "resource").out == places(tmp_path, expected)


def test_routes_come_first(tmp_path: Path, tenure_here: Command) -> None:
    """What no route needs is drawn after what routes need, wherever it is declared; each is named."""
    source = """
@scoped("app")
async def alone() -> None: ...
async def user() -> str:
    return "ada"
app = FastAPI(lifespan=lifespan(also=[alone]))
@app.get("/")
async def index(user: Annotated[str, Depends(user)]): ...
"""
    write(tmp_path, source)
    assert re.findall(r"^\S.*$", tenure_here("graph").out, re.MULTILINE)[::2] == ["GET /", "also=[…]"]


def test_all_of_it(tmp_path: Path, tenure_here: Command) -> None:
    """With `--all`, what tenure declares for itself is shown and nothing is said of it."""
    write(tmp_path, PROGRAM)
    done = tenure_here("graph", "--all")
    assert "    └── shutting_down  app  " in done.out
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--focus", "pool"], {"pool", "settings", "session", "scheduler"}),
        (["--focus", "pool", "--depth", "0"], {"pool"}),
        (["--focus", "settings", "--depth", "2"], {"settings", "pool", "user", "session", "scheduler"}),
        (["--focus", "user", "--depth", "9"], {"user", "session", "pool", "settings"}),
    ],
)
def test_focus(tmp_path: Path, tenure_here: Command, words: list[str], names: set[str]) -> None:
    """Around a focus stands what it needs and what needs it, so many steps away, and the edges between these."""
    write(tmp_path, PROGRAM)
    document = json.loads(tenure_here("graph", "--json", *words).out)
    assert {node["name"] for node in document["nodes"]} == names
    assert {end for edge in document["edges"] for end in (edge["from"], edge["to"])} <= names


def test_a_focus_that_is_not_there(tmp_path: Path, tenure_here: Command) -> None:
    """A focus that is no dependency is a mistake of usage, and those that are called alike are named."""
    write(tmp_path, PROGRAM)
    assert tenure_here("graph", "--focus", "pol") == (2, "", "error: there is no dependency `pol`, but `pool`\n")
    assert tenure_here("graph", "--focus", "xyz") == (2, "", "error: there is no dependency `xyz`\n")


def test_json_is_the_planned_snapshot(tmp_path: Path, tenure_here: Command) -> None:
    """The document is a snapshot of what is declared, library parts among it, by either option."""
    write(tmp_path, PROGRAM)
    documents = [json.loads(tenure_here("graph", *words).out) for words in (["--json"], ["--format", "json"])]
    for document in documents:
        document.pop("time")
    first, second = documents
    assert first == second
    assert (first["schemaVersion"], first["app"], first["state"]) == (1, "shop", "declared")
    assert "shutting_down" in {node["name"] for node in first["nodes"]}


def test_mermaid(tmp_path: Path, tenure_here: Command) -> None:
    """Mermaid's flowchart has each dependency and each edge once, and text that ends nothing."""
    write(
        tmp_path,
        PROGRAM.replace(
            '@scoped("app")\nasync def settings', '@scoped("app", name=\'a "b" <c> #d\')\nasync def settings'
        ),
    )
    lines = tenure_here("graph", "--format", "mermaid").out.splitlines()
    boxes = dict(found.groups() for line in lines if (found := re.match(r'  (n\d+)\["(.+?)<br/>', line)))
    assert sorted(boxes.values()) == ["a #quot;b#quot; #lt;c#gt; #35;d", "pool", "scheduler", "session", "user"]
    edges = [
        (boxes[source], boxes[target])
        for line in lines
        if " --> " in line
        for source, target in [line.split(" --> ")]
        for source in [source.strip()]
    ]
    assert sorted(edges) == [
        ("pool", "a #quot;b#quot; #lt;c#gt; #35;d"),
        ("scheduler", "pool"),
        ("session", "pool"),
        ("user", "a #quot;b#quot; #lt;c#gt; #35;d"),
        ("user", "session"),
    ]
    assert lines[0] == "flowchart LR"
    assert "  classDef app stroke:#0a7d5c,stroke-width:2px" in lines


def test_dot(tmp_path: Path, tenure_here: Command) -> None:
    """Graphviz's graph has each dependency and each edge once, and quotes that end nothing."""
    write(
        tmp_path,
        PROGRAM.replace('@scoped("app")\nasync def settings', "@scoped('app', name='a\"b\\\\')\nasync def settings"),
    )
    lines = tenure_here("graph", "--format", "dot").out.splitlines()
    assert lines[0] == 'digraph "shop" {'
    assert sorted(line for line in lines if "->" in line) == [
        r'  "pool" -> "a\"b\\";',
        '  "scheduler" -> "pool";',
        '  "session" -> "pool";',
        r'  "user" -> "a\"b\\";',
        '  "user" -> "session";',
    ]
    assert len([line for line in lines if "label=" in line]) == 5
    assert tenure_here("graph", "--format", "dot", "--all").out.count('"scheduler" -> "pool"') == 1


def test_svg(tmp_path: Path, tenure_here: Command) -> None:
    """The picture is SVG with each dependency's name, scope and place as text, and has nothing from elsewhere."""
    write(
        tmp_path,
        PROGRAM.replace('@scoped("app")\nasync def settings', '@scoped("app", name="<b>&")\nasync def settings'),
    )
    out = tenure_here("graph", "--format", "svg").out
    picture = ET.fromstring(out)  # noqa: S314 (our own)
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"shop: 5 dependencies", "<b>&", "pool", "session", "user", "scheduler"} <= set(texts)
    assert places(tmp_path, "request · <session>") in texts
    assert len(picture.findall("{http://www.w3.org/2000/svg}path")) == 5
    assert re.findall(r"https?://[^\"]+", out) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme:dark" in out


def test_a_circle_is_drawn(tmp_path: Path, tenure_here: Command) -> None:
    """An app whose graph cannot work is drawn all the same, in each format."""
    source = """
@scoped("app")
async def clock() -> str:
    return "now"
async def later(clock: Annotated[str, Depends(clock)]) -> str:
    return clock
app = FastAPI(lifespan=lifespan(also=[clock]))
app.dependency_overrides[clock] = later
"""
    write(tmp_path, source)
    for words in ([], ["--by", "resource"], ["--format", "svg"], ["--format", "dot"], ["--format", "mermaid"]):
        assert tenure_here("graph", *words).code == 0


def test_an_app_without_dependencies(tmp_path: Path, tenure_here: Command) -> None:
    """An app that needs nothing is drawn as nothing, and its picture is still one."""
    write(tmp_path, "app = FastAPI(lifespan=lifespan)")
    assert tenure_here("graph") == (0, "", "")
    ET.fromstring(tenure_here("graph", "--format", "svg").out)  # noqa: S314 (our own)


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("app = FastAPI()", 2, "the app does not have tenure's lifespan"),
        ("app = FastAPI(lifespan=lifespan(also=[1]))", 1, "error[declaration]: also=[…] has 1"),
        ("import not_there", 2, "cannot be imported"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, tenure_here: Command, source: str, code: int, told: str) -> None:
    """An app that is none, or that cannot be planned, is told on standard error."""
    write(tmp_path, source)
    done = tenure_here("graph")
    assert (done.code, done.out) == (code, "")
    assert told in done.err
