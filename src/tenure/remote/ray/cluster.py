"""The Ray cluster that this process is a driver of, while an app needs it; joined, and never started."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from tenure.errors import MissingExtra
from tenure.remote.errors import NoCluster
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

try:
    import ray as _ray
except ModuleNotFoundError:
    _msg = "a class at cluster scope lives in a Ray cluster, which needs the package ray, and that is not installed"
    raise MissingExtra(_msg, hint='pip install "tenure[ray]"') from None

ray: Any = _ray
"""Ray, whose functions type checkers lose sight of behind its decorators."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Ray's own variable for where the cluster is; without it, Ray looks for one on this machine."""
REACHED = 3
"""Seconds within which the head of the cluster is to take a connection; Ray itself tries for more than a minute."""
START = "start Ray on this machine, `ray start --head` or `ray start --address=HEAD:6379`, or set RAY_ADDRESS"

_turn = threading.Lock()
_users = 0
_is_ours = False


@asynccontextmanager
async def joined(namespace: str) -> AsyncGenerator[None]:
    """
    Be a driver of the cluster for a block; who is one already, or lives in the cluster, stays what it is.

    Raises:
        NoCluster: There is none, or it does not take this process.
    """
    has_joined = False

    def join() -> None:
        nonlocal has_joined
        _join(namespace)
        has_joined = True

    try:
        await in_own_thread(join)
        _leave_sigterm_alone()
        yield
    finally:
        if has_joined:  # also where this was cancelled meanwhile
            await in_own_thread(_leave)


def _join(namespace: str) -> None:
    global _users, _is_ours  # noqa: PLW0603 (Ray itself has one connection for a process)
    with _turn:
        if not _users:
            _is_ours = not ray.is_initialized()
            if _is_ours:
                _connect(namespace)
        _users += 1


def _leave() -> None:
    global _users  # noqa: PLW0603 (likewise)
    with _turn:
        _users -= 1
        if not _users and _is_ours:
            gc.collect()  # Ray ends the process at once where a reference to an answer is given up while it shuts down
            ray.shutdown()


def _connect(namespace: str) -> None:
    address = os.environ.get(ADDRESS_VARIABLE, "")
    _refuse(address)
    try:
        with _without_advice():
            ray.init(address="auto", namespace=namespace, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        where = f"the Ray cluster at {address}" if address else "a Ray cluster"
        said = " ".join(str(error).split())
        msg = f"{where} cannot be joined: {said}"
        raise NoCluster(msg, hint=START) from error


def _refuse(address: str) -> None:
    """Refuse at once what Ray would wait for, or answer with a cluster of its own."""
    if address == "local" or "://" in address:
        kind = "would start a cluster" if address == "local" else "is the address of a proxy"
        msg = f"RAY_ADDRESS={address} {kind}, and a service is to be part of one"
        raise NoCluster(msg, hint=START)
    host, separator, port = address.rpartition(":")
    if separator and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
        except (OSError, OverflowError) as error:
            msg = f"no Ray cluster answers at {address}: {error}"
            raise NoCluster(msg, hint=START) from error


def _leave_sigterm_alone() -> None:
    """Take Ray's handler of SIGTERM away, which prints a stack as after a crash before the server's gets its turn."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _without_advice() -> Generator[None]:
    """Keep Ray from warning that it leaves SIGTERM to the server: that is what it is to do."""
    log = logging.getLogger("ray._private.worker")

    def is_other(record: logging.LogRecord) -> bool:
        return "SIGTERM" not in record.getMessage()

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)
