"""What a client of other services is like."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import httpx

from tenure.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = frozenset({"base_url", "limits", "mounts", "timeout", "transport"})
"""What httpx would take, and has fields of `ClientSettings` instead."""
_CONNECTION = frozenset(inspect.signature(httpx.AsyncHTTPTransport).parameters) - OURS
_CLIENT = frozenset(inspect.signature(httpx.AsyncClient).parameters) - OURS - _CONNECTION


class Knobs(TypedDict, total=False):
    """The fields of `ClientSettings`, as keyword arguments."""

    base_url: str
    max_size: int
    acquire_timeout: float
    connect_timeout: float
    timeout: float
    deadline: float
    release_timeout: float
    keepalive_expiry: float
    leak_after: float
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """
    What a client is like. All times are in seconds.

    Attributes:
        base_url: What the URLs of requests begin with that are not whole by themselves.
        max_size: Most connections at once, and so most requests.
        acquire_timeout: How long a request waits for a connection, where all are in use.
        connect_timeout: How long opening a connection may take.
        timeout: How long the other service may send nothing that is waited for, or take nothing.
        deadline: How long a request may take in all: waits, redirects and the reading of its response included; of one
            that is streamed, until its head is there. ``extensions={"deadline": 120}`` says it for one request, and
            None that there is none.
        release_timeout: How long closing a connection may take, and the client's close waits for those in use.
        keepalive_expiry: How long a connection that nobody uses may be used again.
        leak_after: How long a connection may be in use before that is logged, once, with the stack that asked for it.
        options: What else `httpx.AsyncClient` and `httpx.AsyncHTTPTransport` take, such as ``{"headers": …}``,
            ``{"auth": …}``, ``{"follow_redirects": True}``, ``{"verify": …}``, ``{"proxy": …}``, ``{"uds": …}``.
    """

    base_url: str = ""
    max_size: int = 100
    acquire_timeout: float = 5.0
    connect_timeout: float = 5.0
    timeout: float = 5.0
    deadline: float = 30.0
    release_timeout: float = 2.0
    keepalive_expiry: float = 5.0
    leak_after: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def client_options(self) -> dict[str, Any]:
        """The options that are for `httpx.AsyncClient`."""
        return {name: value for name, value in self.options.items() if name in _CLIENT}

    @property
    def connection_options(self) -> dict[str, Any]:
        """The options that are for `httpx.AsyncHTTPTransport`."""
        return {name: value for name, value in self.options.items() if name in _CONNECTION}

    def refuse_nonsense(self) -> None:
        """
        Refuse what no client can be like.

        Raises:
            DeclarationError: A number is not above 0, or an option is none of httpx's.
        """
        for name in ("max_size", "acquire_timeout", "connect_timeout", "timeout", "deadline", "release_timeout"):
            value = getattr(self, name)
            if not value > 0:
                msg = f"a client has {name}={value}, which must be above 0"
                raise DeclarationError(msg)
        unknown = self.options.keys() - _CLIENT - _CONNECTION
        if unknown:
            msg = f"a client has options that it does not know: {', '.join(sorted(unknown))}"
            raise DeclarationError(msg, hint="a base URL, time or number of connections is a setting, and no option")
