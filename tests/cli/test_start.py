"""`tenure start`: everything started once, shown, and closed in order, whatever happens on the way."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import TENURE, environment
from tests.cli.test_check import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.commands import Done

    Command = Callable[..., Done]

PROGRAM = """
import asyncio
import sys

def note(*words):
    print(*words, file=sys.stderr)

@scoped("app")
async def pool() -> AsyncIterator[str]:
    await asyncio.sleep(0.2)
    yield "pool"
    note("pool closed")

@scoped("app")
async def quick() -> AsyncIterator[str]:
    yield "quick"
    note("quick closed")

@scoped("app", start_timeout=600)
async def users(pool: Annotated[str, Depends(pool)], quick: Annotated[str, Depends(quick)]) -> AsyncIterator[str]:
    await asyncio.sleep(0.1)
    BEFORE
    print("begins")
    FAILURE
    yield "users"
    note("users closed")

@scoped("app")
async def last(users: Annotated[str, Depends(users)]) -> AsyncIterator[str]:
    yield "last"
    LATE
    note("last closed")

app = FastAPI(title="shop", lifespan=lifespan(also=[last]))
"""
ANOTHER_THREAD = """
    import signal, threading
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
"""
ROW = re.compile(r"^([* ]) (\w+) +app +(?:([\d.]+) s)? *([▏▎▍▌▋▊▉█ ]*?) *(|failed|cut off|not begun)$", re.MULTILINE)


def program(folder: Path, failure: str = "pass", late: str = "pass", before: str = "pass") -> None:
    """Write the program, with what `users` does in its start, before a word and after it, and `last` in its close."""
    write(folder, PROGRAM.replace("BEFORE", before).replace("FAILURE", failure).replace("LATE", late))


def rows(out: str) -> dict[str, tuple[str, str]]:
    """Give for each row of a timeline its mark and its outcome."""
    return {name: (mark.strip(), outcome) for mark, name, _, _, outcome in ROW.findall(out)}


def closed(err: str) -> list[str]:
    """Give what the program says that it has closed, in that order."""
    return re.findall(r"^(\w+) closed$", err, re.MULTILINE)


def test_a_start_that_goes_well(tmp_path: Path, tenure_here: Command) -> None:
    """Each resource has a row, those that the start waited for are marked, all is closed, and the code is 0."""
    program(tmp_path)
    done = tenure_here("start")
    assert rows(done.out) == {"pool": ("*", ""), "quick": ("", ""), "users": ("*", ""), "last": ("*", "")}
    assert "* what the start waited for: pool, then users, then last\n" in done.out
    assert re.search(r"\nclosed in [\d.]+ s: ", done.out)
    assert (done.code, done.err.splitlines()[0]) == (0, "begins")
    assert closed(done.err)[:2] == ["last", "users"]
    assert sorted(closed(done.err)) == ["last", "pool", "quick", "users"]


def test_the_document_of_a_start(tmp_path: Path, tenure_here: Command) -> None:
    """`--json` prints when each began, how long it took to start and to close, and what the whole waited for."""
    program(tmp_path)
    done = tenure_here("start", "--json")
    document = json.loads(done.out)
    assert (document["schemaVersion"], document["app"], document["outcome"], document["error"]) == (
        1,
        "shop",
        "started and closed",
        "",
    )
    assert 0.3 <= document["readySeconds"] < 30
    assert 0 <= document["closeSeconds"] < 10
    events = {event["resource"]: event for event in document["events"]}
    assert [name for name, event in events.items() if event["critical"]] == ["pool", "users", "last"]
    assert {event["outcome"] for event in events.values()} == {"ready"}
    assert events["users"]["startOffset"] >= events["pool"]["startOffset"] + events["pool"]["startSeconds"]
    assert all(event["closeSeconds"] is not None and event["scope"] == "app" for event in events.values())


def test_a_start_that_fails(tmp_path: Path, tenure_here: Command) -> None:
    """A failure is told with the chain that needs it, after the timeline up to there; what had started is closed."""
    program(tmp_path, failure="raise OSError('no route to host')")
    done = tenure_here("start")
    assert rows(done.out) == {"pool": ("*", ""), "quick": ("", ""), "users": ("*", "failed"), "last": ("", "not begun")}
    assert "closed in" not in done.out
    assert "\nerror[start-failed]: `users` did not start: OSError: no route to host\n  last     app" in done.err
    assert "Traceback" not in done.err
    assert (done.code, sorted(closed(done.err))) == (1, ["pool", "quick"])
    document = json.loads(tenure_here("start", "--json").out)
    assert (document["outcome"], document["readySeconds"], document["closeSeconds"]) == ("failed", None, None)
    assert document["error"].startswith("error[start-failed]: `users` did not start")


def test_a_start_that_takes_too_long(tmp_path: Path, tenure_here: Command) -> None:
    """`--timeout` cuts off what still starts, what had started is closed, and the code is 3."""
    program(tmp_path, failure="await asyncio.sleep(600)")
    done = tenure_here("start", "--timeout", "1")
    assert rows(done.out) == {
        "pool": ("*", ""),
        "quick": ("", ""),
        "users": ("*", "cut off"),
        "last": ("", "not begun"),
    }
    assert done.err.endswith("error: it had not started after 1 s, and what had was closed\n")
    assert (done.code, sorted(closed(done.err))) == (3, ["pool", "quick"])


def test_the_timeout_is_of_the_start_alone(tmp_path: Path, tenure_here: Command) -> None:
    """A close may take longer than `--timeout`."""
    program(tmp_path, late="await asyncio.sleep(1.2)")
    done = tenure_here("start", "--timeout", "1.1")
    assert (done.code, closed(done.err)[:2]) == (0, ["last", "users"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A start that is interrupted is closed in order, shown up to there, and the code is that of an interrupt."""
    program(tmp_path, failure="await asyncio.sleep(600)")
    assert_closes_in_order(tmp_path, number)


def test_what_a_shell_runs_in_the_background(tmp_path: Path) -> None:
    """Where Ctrl-C is not heard, as a shell has it for what it runs in the background, SIGTERM is."""
    program(tmp_path, failure="await asyncio.sleep(600)")
    assert_closes_in_order(tmp_path, signal.SIGTERM, sigint=signal.SIG_IGN)


def test_an_interrupt_that_another_thread_gets(tmp_path: Path) -> None:
    """An interrupt counts at once where nothing wakes the event loop, as another of the process's threads got it."""
    program(tmp_path, before=ANOTHER_THREAD, failure="await asyncio.sleep(600)")
    assert_closes_in_order(tmp_path, signal.SIGINT)


def assert_closes_in_order(folder: Path, number: signal.Signals, sigint: signal.Handlers = signal.SIG_DFL) -> None:
    """Send a signal to a start that hangs, which was itself started with SIGINT heard or ignored."""
    with subprocess.Popen(
        [TENURE, "start"],
        cwd=folder,
        env=environment(),
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),  # noqa: PLW1509 (a call of the kernel's alone)
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begins\n"
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert err.endswith("error: it was interrupted, and what had started was closed\n")
    assert rows(out)["users"] == ("*", "cut off")
    assert (process.returncode, sorted(closed(err))) == (130, ["pool", "quick"])


def test_a_close_that_fails(tmp_path: Path, tenure_here: Command) -> None:
    """What fails to close is told, everything else is closed, and the code is 1."""
    program(tmp_path, late="raise OSError('disk full')")
    done = tenure_here("start")
    assert rows(done.out)["last"] == ("*", "")
    assert "`last` failed to close: OSError('disk full')" in done.err
    assert (done.code, closed(done.err)[0]) == (1, "users")


def test_a_lifespan_that_raises(tmp_path: Path, tenure_here: Command) -> None:
    """What the app's own lifespan raises is told by the user's own lines."""
    program(tmp_path)
    with (tmp_path / "main.py").open("a") as file:
        file.write(
            "\nasync def mine(app):\n    raise TimeoutError('no token')\n    yield\n"
            "app = FastAPI(lifespan=lifespan(mine, also=[last]))\n"
        )
    done = tenure_here("start", "--timeout", "30")
    assert re.search(
        r"^error: TimeoutError: no token\n  main\.py:\d+ in mine\n    raise TimeoutError", done.err, re.MULTILINE
    )
    assert (done.code, len(closed(done.err))) == (1, 4)


def test_an_app_that_runs_another(tmp_path: Path, tenure_here: Command) -> None:
    """The timeline is that of the app itself, also where one of its resources runs another app."""
    write(
        tmp_path,
        """
        from tenure import running
        @scoped("app")
        async def theirs() -> None: ...
        other = FastAPI(lifespan=lifespan(also=[theirs]))
        @scoped("app")
        async def ours() -> AsyncIterator[None]:
            async with running(other):
                yield
        app = FastAPI(lifespan=lifespan(also=[ours]))
        """,
    )
    done = tenure_here("start")
    assert (done.code, rows(done.out)) == (0, {"ours": ("*", "")})


def test_a_start_in_the_background(tmp_path: Path, tenure_here: Command) -> None:
    """What starts in the background is waited for."""
    program(tmp_path)
    source = (tmp_path / "main.py").read_text().replace("also=[last]", 'also=[last], start="background"')
    (tmp_path / "main.py").write_text(source)
    done = tenure_here("start")
    assert rows(done.out) == {"pool": ("*", ""), "quick": ("", ""), "users": ("*", ""), "last": ("*", "")}
    assert done.code == 0


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("app = FastAPI()", 2, "the app does not have tenure's lifespan"),
        ("app = FastAPI(lifespan=lifespan(also=[1]))", 1, "error[declaration]: also=[…] has 1"),
        ("app = FastAPI(lifespan=lifespan(grace=-1))", 1, "error[declaration]: grace=-1"),
        ("import not_there", 2, "cannot be imported"),
        ("app = FastAPI(lifespan=lifespan(also=[scoped('app')(lambda region: region)]))", 1, "error[request-data]"),
    ],
)
def test_what_does_not_begin(tmp_path: Path, tenure_here: Command, source: str, code: int, told: str) -> None:
    """An app that is none or cannot work is told before anything starts."""
    write(tmp_path, source)
    done = tenure_here("start")
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal the bars are coloured, and progress shows by name what still starts."""
    program(tmp_path)
    parent, child = pty.openpty()
    with subprocess.Popen(
        [TENURE, "start"], cwd=tmp_path, env=environment(TERM="xterm-256color"), stdout=child, stderr=child
    ) as process:
        os.close(child)
        shown = b""
        try:
            while part := os.read(parent, 65536):
                shown += part
        except OSError:  # its other end is closed
            pass
        os.close(parent)
    text = shown.decode()
    assert process.returncode == 0
    assert re.search(r"starting .*0/4.* pool, quick", text)
    assert re.search(r"\x1b\[32m *█", text)
