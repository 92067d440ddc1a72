"""Small servers on loopback that answer as a test says."""

from __future__ import annotations

import ssl
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Reply(NamedTuple):
    """
    An answer to a GET.

    Attributes:
        status: Its status.
        body: What it says; nothing for one that stops in the middle and never ends.
        location: Where it leads to instead.
    """

    status: int
    body: str | None
    location: str = ""


class Server(NamedTuple):
    """A server, and what it was asked for."""

    port: int
    asked: list[str]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(reply: Callable[[str], Reply], *, tls: bool = False) -> Iterator[Server]:
    """Answer each GET by its path."""
    asked, ended = list[str](), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body, location = reply(self.path)
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            if body is None:
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                while not ended.wait(0.05):
                    self.wfile.write(b".")
            else:
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

        def handle(self) -> None:
            with suppress(OSError):  # who asked may have gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign, assignment]
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Server(server.server_port, asked)
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
