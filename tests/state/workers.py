"""Workers that share counts: real processes that do as they are told, until they leave or are killed."""

from __future__ import annotations

import os
import resource
import threading
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from tenure.errors import AlreadyClosed, TenureError
from tenure.state.stores import rows
from tenure.state.stores.mapped import share

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tenure.state.stores.mapped import Share

PATIENCE = 30
NAME = "requests"

# Each worker is forked from a process that has loaded everything and shares nothing, so hundreds take seconds.
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.state.workers"])


class Worker:
    """A process that shares the counts of a folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._connection, theirs = processes.Pipe()
        self.process = processes.Process(target=_serve, args=(theirs, folder, options), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self) -> Any:
        """Wait for an answer; raise the error that the worker met."""
        if not self._connection.poll(PATIENCE):
            pytest.fail("the worker does not answer")
        answer = self._connection.recv()
        if isinstance(answer, TenureError):
            raise answer
        return answer

    def joined(self) -> Worker:
        """Wait until it shares the counts."""
        self.answer()
        return self

    def tell(self, order: str, *arguments: Any) -> None:
        """Give an order, and do not wait for it."""
        self._connection.send((order, *arguments))

    def ask(self, order: str, *arguments: Any) -> Any:
        """Give an order, and wait for the answer."""
        self.tell(order, *arguments)
        return self.answer()

    def orphan(self) -> Any:
        """End it, and let the child that it leaves go on; what that answers."""
        self.process.kill()
        self.process.join(PATIENCE)
        return self.ask("go on")

    def kill(self) -> list[str]:
        """End it as nobody can expect; what it had said by then."""
        self.process.kill()
        self.process.join(PATIENCE)
        said = []
        try:
            while True:
                said.append(self._connection.recv())
        except EOFError:
            return said

    def leave(self) -> None:
        """Let it end in good order."""
        self._connection.close()
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0


@dataclass
class Post:
    """Where a worker does what it is told."""

    mine: Share
    connection: Connection
    folder: Path


def _serve(connection: Connection, folder: Path, options: dict[str, Any]) -> None:
    name = options.pop("name", NAME)
    try:
        mine = share(folder, name, owner=threading.get_ident(), **options)
    except TenureError as error:
        connection.send(error)
        return
    connection.send("joined")
    post = Post(mine, connection, folder)
    while True:
        try:
            order, *arguments = connection.recv()
        except EOFError:
            mine.close()
            return
        try:
            connection.send(ORDERS[order](post, *arguments))
        except TenureError as error:
            connection.send(error)


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    """Start some work in so many threads at once."""
    begin = threading.Barrier(count)

    def start() -> None:
        begin.wait()
        work()

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _add(post: Post, n: int) -> int:
    return post.mine.number.add(n)


def _add_in_thread(post: Post, n: int) -> int:
    values: list[int] = []
    for thread in in_threads(1, lambda: values.append(post.mine.number.add(n))):
        thread.join()
    return values[0]


def _value(post: Post) -> int:
    return post.mine.number.value


def _epoch(post: Post) -> bytes:
    return post.mine.epoch


def _add_everywhere(post: Post, each: int) -> int:
    """Add from three threads, from the owner's, and from two children that are forked meanwhile."""

    def work() -> None:
        for _ in range(each):
            post.mine.number.add()

    threads = in_threads(3, work)
    children = [_forked(work) for _ in range(2)]
    work()
    for thread in threads:
        thread.join()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return 6 * each


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 (the parent is told by the status)
        os._exit(1)
    os._exit(0)


def _forked_value(post: Post) -> int:
    child = _forked(lambda: post.connection.send(post.mine.number.value))
    return os.waitpid(child, 0)[1]


def _leave_child(post: Post) -> int:
    """Fork a child that adds when it is told to, which is to be once its parent is gone."""

    def work() -> None:
        post.connection.recv()
        post.connection.send(post.mine.number.add())

    return _forked(work)


def _share_in_child(post: Post) -> int:
    """Fork a child that shares the counts itself, as an app that it starts does, before and after it has closed it."""

    def work() -> None:
        own = share(post.folder, NAME, owner=threading.get_ident())
        post.connection.send(own.number.add())
        own.close()
        try:
            post.mine.number.add()
        except AlreadyClosed:
            post.connection.send("closed")
        post.mine.close()

    return os.waitpid(_forked(work), 0)[1]


def _rush(post: Post) -> None:
    """Add until killed, saying so before and after each add."""
    while True:
        post.connection.send("sent")
        post.mine.number.add()
        post.connection.send("acknowledged")


def _swing(post: Post, n: int) -> None:
    """Add and take away until killed."""
    post.connection.send("swinging")
    while True:
        post.mine.number.add(n)
        post.mine.number.add(-n)


def _hold(post: Post) -> str:
    """Keep others from joining until told to go on."""
    with rows.alone(post.folder):
        post.connection.send("holding")
        post.connection.recv()
    return "let go"


def _hold_and_fork(post: Post) -> int:
    """Fork while others are kept from joining, by a lock whose open file the child inherits."""
    with rows.alone(post.folder):
        return _forked(post.connection.recv)


def _limit(_: Post, size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _another(post: Post, name: str) -> int:
    """Add to another count."""
    return share(post.folder, name, owner=threading.get_ident()).number.add()


ORDERS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "add_in_thread": _add_in_thread,
    "value": _value,
    "epoch": _epoch,
    "add_everywhere": _add_everywhere,
    "forked_value": _forked_value,
    "leave_child": _leave_child,
    "share_in_child": _share_in_child,
    "rush": _rush,
    "swing": _swing,
    "hold": _hold,
    "hold_and_fork": _hold_and_fork,
    "limit": _limit,
    "another": _another,
}
