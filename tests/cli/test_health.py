"""`tenure health` and `tenure wait`: a running app, asked from outside."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from subprocess import PIPE
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import TENURE, environment, tenure
from tests.cli.servers import Reply, serving
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.commands import Done

    Command = Callable[..., Done]

UNWELL = {
    "status": "fail",
    "checks": {
        "pool:responseTime": [{"status": "pass"}],
        "model:load": [{"status": "fail", "output": "no memory\nleft"}],
    },
}
STARTING = {"status": "fail", "output": "the app is starting", "pending": ["model", "pool"]}


def test_a_well_app(tmp_path: Path) -> None:
    """An app that answers 200 is well; a URL without a path is asked at /readyz."""
    with serving(lambda _: Reply(200, '{"status": "pass"}')) as server:
        assert tenure("health", server.url, folder=tmp_path) == (0, "200 pass\n", "")
        assert server.asked == ["/readyz"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (json.dumps(UNWELL), "503 fail\n  model:load         fail: no memory\n  pool:responseTime  pass\n"),
        (json.dumps(STARTING), "503 fail: the app is starting\n  model  not started\n  pool   not started\n"),
        ("[-]pool failed\n", "503 [-]pool failed\n"),
        ("", "503\n"),
        ('["a", "list"]', "503 ['a', 'list']\n"),
        ('{"status": "fail", "checks": [1], "pending": 2}', "503 fail\n"),
        ('{"checks": {"a": {"status": "warn"}, "b": [3]}}', "503\n  a  warn\n"),
    ],
)
def test_an_unwell_app(tenure_here: Command, body: str, told: str) -> None:
    """An app that answers 503 is not well, and what its body says is shown, in whatever form it is."""
    with serving(lambda _: Reply(503, body)) as server:
        assert tenure_here("health", f"{server.url}/x?y=1") == (1, told, "")
        assert server.asked == ["/x?y=1"]


def test_the_document_of_an_answer(tenure_here: Command) -> None:
    """`--json` prints the answer, and likewise that there was none."""
    with serving(lambda _: Reply(503, json.dumps(STARTING))) as server:
        done = tenure_here("health", server.url, "--json")
        document = json.loads(done.out)
        assert document.pop("seconds") >= 0
        assert document == {
            "schemaVersion": 1,
            "url": f"{server.url}/readyz",
            "healthy": False,
            "status": 503,
            "body": STARTING,
            "error": "",
        }
    document = json.loads(tenure_here("health", server.url, "--json").out)
    assert (document["status"], document["error"]) == (None, f"no answer from {server.url}/readyz: Connection refused")


def test_nobody_listens(tenure_here: Command) -> None:
    """An app that cannot be reached is not well, and why is no data."""
    port = free_port()
    done = tenure_here("health", f"127.0.0.1:{port}")
    assert done == (1, "", f"no answer from http://127.0.0.1:{port}/readyz: Connection refused\n")


@pytest.mark.parametrize("is_dripping", [False, True])
def test_an_answer_that_does_not_come(tmp_path: Path, *, is_dripping: bool) -> None:
    """Who does not answer in time, or begins an answer that never ends, is given up."""
    ended = Event()

    def reply(_: str) -> Reply:
        if not is_dripping:
            ended.wait()
        return Reply(200, None)

    with serving(reply) as server:
        done = tenure("health", server.url, "--timeout", "0.3", folder=tmp_path)
        ended.set()
        assert done == (3, "", f"no answer from {server.url}/readyz within 0.3 s\n")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", ":8000", "http://127.0.0.1:port", "http://[::1"])
def test_what_is_no_url(tenure_here: Command, url: str) -> None:
    """What is no URL of HTTP is a mistake of usage, for `wait` too."""
    for command in ("health", "wait"):
        done = tenure_here(command, url)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: ")


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--timeout", "-1"], ["--timeout", "soon"], ["--nonsense"], []])
def test_mistakes_of_usage(tmp_path: Path, words: list[str]) -> None:
    """What the words for one question do not allow is told, and the code is 2."""
    done = tenure("health", *words, *(["127.0.0.1:1"] if words else []), folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "Usage: tenure health" in done.err


def test_redirects_are_followed(tenure_here: Command) -> None:
    """An answer that leads elsewhere is followed; a circle of them ends."""
    replies = {"/a": Reply(307, "", "/b"), "/b": Reply(200, "ok"), "/c": Reply(307, "", "/c")}
    with serving(lambda path: replies[path]) as server:
        assert tenure_here("health", f"{server.url}/a") == (0, "200 ok\n", "")
        assert tenure_here("health", f"{server.url}/c").code == 1


def test_a_certificate_that_nobody_vouches_for(tenure_here: Command) -> None:
    """A certificate that does not hold makes an app unwell, and the reason is told."""
    with serving(lambda _: Reply(200, "ok"), tls=True) as server:
        done = tenure_here("health", f"https://127.0.0.1:{server.port}")
        assert (done.code, done.out) == (1, "")
        assert "certificate verify failed" in done.err


def test_no_proxy_stands_between(tenure_here: Command) -> None:
    """What is on this machine is asked itself, whatever proxy the environment names; what is elsewhere by the proxy."""
    with serving(lambda _: Reply(200, "ok")) as server, serving(lambda _: Reply(502, "proxy")) as proxy:
        variables = {"http_proxy": proxy.url, "no_proxy": ""}
        for host in ("127.0.0.1", "localhost"):
            assert tenure_here("health", f"http://{host}:{server.port}", **variables).out == "200 ok\n"
        assert tenure_here("health", "http://service.invalid", **variables).out == "502 proxy\n"


def test_a_question_imports_little(tmp_path: Path) -> None:
    """One question, as a container asks it, waits for none of the packages that the other commands need."""
    program = (
        "import sys; from tenure.cli import main\n"
        "try: main()\nfinally: print(*sorted({'fastapi', 'pydantic', 'typer', 'rich'} & set(sys.modules)))"
    )
    for words in (["http://127.0.0.1:1"], ["--timeout", "2", "127.0.0.1:1"], ["127.0.0.1:1", "--timeout", "0.5"]):
        command = [sys.executable, "-c", program, "health", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "\n")


def test_waiting_until_it_is_well(tenure_here: Command) -> None:
    """`wait` asks until the answer is good, and says each thing once that is waited for."""
    replies = iter([STARTING, STARTING, UNWELL, None])

    def reply(_: str) -> Reply:
        body = next(replies)
        return Reply(503, json.dumps(body)) if body else Reply(200, '{"status": "pass"}')

    with serving(reply) as server:
        done = tenure_here("wait", server.url, "--interval", "0.01")
    assert done == (0, "200 pass\n", "waiting: model, pool\nwaiting: model:load (no memory)\n")


def test_waiting_in_vain(tenure_here: Command) -> None:
    """`wait` gives up in time with the code 3, and tells the last answer."""
    with serving(lambda _: Reply(503, json.dumps(STARTING))) as server:
        done = tenure_here("wait", server.url, "--timeout", "2", "--interval", "0.01")
        assert done.code == 3
        assert done.out == "503 fail: the app is starting\n  model  not started\n  pool   not started\n"
        assert done.err == f"waiting: model, pool\n{server.url}/readyz was not well within 2 s\n"
        document = json.loads(tenure_here("wait", server.url, "--timeout", "1", "--json").out)
        assert (document["healthy"], document["body"]) == (False, STARTING)


def test_waiting_for_who_does_not_listen_yet(tenure_here: Command) -> None:
    """`wait` takes an app that cannot be reached for one that comes."""
    done = tenure_here("wait", "127.0.0.1:1", "--timeout", "0.1", "--interval", "0.01")
    refused = "no answer from http://127.0.0.1:1/readyz: Connection refused"
    assert done == (3, "", f"waiting: {refused}\nhttp://127.0.0.1:1/readyz was not well within 0.1 s\n{refused}\n")


def test_waiting_for_a_real_app(tmp_path: Path) -> None:
    """An app that starts in the background is waited for by the names of what has not started."""
    (tmp_path / "main.py").write_text("""
import asyncio
from pathlib import Path
from fastapi import FastAPI
from tenure import lifespan, scoped
from tenure.ops import ops_router

@scoped("app")
async def model() -> str:
    while not Path("loaded").exists():
        await asyncio.sleep(0.02)
    return "model"

app = FastAPI(lifespan=lifespan(also=[model], start="background"))
app.include_router(ops_router())
""")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        port, descriptor = listening.getsockname()[1], listening.fileno()
        server = [sys.executable, "-m", "uvicorn", "main:app", "--fd", str(descriptor)]
        wait = [TENURE, "wait", f"127.0.0.1:{port}", "--timeout", "50", "--interval", "0.05"]
        with (
            subprocess.Popen(server, cwd=tmp_path, pass_fds=[descriptor], stdout=PIPE, stderr=PIPE) as serving_app,
            subprocess.Popen(wait, env=environment(), stdout=PIPE, stderr=PIPE, text=True) as waiting,
        ):
            try:
                for line in waiting.stderr or ():
                    if line == "waiting: model\n":
                        (tmp_path / "loaded").touch()
                assert waiting.stdout is not None
                assert (waiting.stdout.read(), waiting.wait()) == ("200 pass\n", 0)
                assert (tmp_path / "loaded").exists()
            finally:
                serving_app.terminate()
                serving_app.communicate()
