"""One question to a running app over HTTP, and what its answer says."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterator

READINESS = "/readyz"
"""What is asked for where a URL has no path."""
LARGEST = 1 << 20
"""Bytes of an answer that are read."""
LONGEST_LINE = 200


@dataclass(frozen=True)
class Answer:
    """
    What one question led to.

    Attributes:
        url: What was asked for.
        status: The HTTP status; nothing where no answer came.
        body: What the answer says, as JSON where it is JSON, else its text.
        seconds: How long it took.
        error: Why no answer came.
        is_late: Whether that is because it took too long.
    """

    url: str
    status: int | None
    body: Any
    seconds: float
    error: str = ""
    is_late: bool = False

    @property
    def is_healthy(self) -> bool:
        """Whether the app says that it is."""
        return self.status is not None and self.status < 300  # noqa: PLR2004 (HTTP's success)

    def lines(self) -> Iterator[str]:
        """Say it in lines: the whole, then what has not started, then each check, those that pass last."""
        if self.status is None:
            yield self.error
            return
        told = ": ".join(each for each in _whole(self.body) if each)
        yield f"{self.status} {told}".rstrip()
        checks = sorted(_checks(self.body), key=lambda check: check[1] == "pass")
        parts = [*((name, "not started", "") for name in _pending(self.body)), *checks]
        width = max((len(name) for name, *_ in parts), default=0)
        for name, status, output in parts:
            yield f"  {name:<{width}}  {status}{': ' if output else ''}{output}"

    def waits_for(self) -> str:
        """Say in one line what keeps it from being healthy."""
        if pending := _pending(self.body):
            return ", ".join(pending)
        amiss = [f"{name} ({output or status})" for name, status, output in _checks(self.body) if status != "pass"]
        return ", ".join(amiss) or next(self.lines())

    def document(self) -> dict[str, Any]:
        """Give it as a document."""
        return {
            "schemaVersion": 1,
            "url": self.url,
            "healthy": self.is_healthy,
            "status": self.status,
            "body": self.body,
            "seconds": round(self.seconds, 6),
            "error": self.error,
        }


def address(url: str) -> str:
    """
    Give the URL that is asked for.

    Raises:
        ValueError: It is no URL of HTTP.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or (parts.port or 1) < 1:
        msg = f"`{url}` is no URL such as http://127.0.0.1:8000{READINESS}"
        raise ValueError(msg)
    return parts._replace(path=parts.path or READINESS).geturl()


def ask(url: str, timeout: float) -> Answer:
    """Send one GET; redirects are followed, and what is on this machine is never asked by way of a proxy."""
    began = time.monotonic()
    opener = build_opener(ProxyHandler({})) if _is_here(url) else build_opener()
    request = Request(url, headers={"Accept": "application/health+json, */*", "User-Agent": "tenure"})  # noqa: S310 (`address` gave it)

    def took() -> float:
        return time.monotonic() - began

    try:
        try:
            answer = opener.open(request, timeout=timeout)
        except HTTPError as error:
            answer = error
        with answer:
            content = b""
            while len(content) < LARGEST and (part := answer.read1(LARGEST)):
                content += part
                if took() > timeout:
                    raise TimeoutError
            return Answer(url, answer.status, _read(content), took())
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            return Answer(url, None, None, took(), f"no answer from {url} within {timeout:g} s", is_late=True)
        told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return Answer(url, None, None, took(), f"no answer from {url}: {told}")


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read(content: bytes) -> Any:  # noqa: ANN401 (any JSON)
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _first_line(body: object) -> str:
    return next((line.strip()[:LONGEST_LINE] for line in str(body or "").splitlines() if line.strip()), "")


def _whole(body: Any) -> tuple[str, str]:  # noqa: ANN401 (any JSON)
    """Give how all of it is, and why."""
    if not isinstance(body, dict):
        return _first_line(body), ""
    return str(body.get("status", "")), _first_line(body.get("output"))


def _pending(body: Any) -> list[str]:  # noqa: ANN401 (any JSON)
    """Name what a body says has not started yet."""
    pending = body.get("pending") if isinstance(body, dict) else None
    return [str(name) for name in pending] if isinstance(pending, list) else []


def _checks(body: Any) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401 (any JSON)
    """Give name, status and output of each check of a body of health+json, however little of that it keeps to."""
    checks = body.get("checks") if isinstance(body, dict) else None
    for name, results in checks.items() if isinstance(checks, dict) else ():
        for result in results if isinstance(results, list) else [results]:
            if isinstance(result, dict):
                yield str(name), str(result.get("status", "?")), _first_line(result.get("output"))
