"""Circles among things that need each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


def cycles(roots: Iterable[T], needs: Callable[[T], Iterable[T]]) -> Iterator[list[T]]:
    """Give each circle that is met on a walk down from some roots: from a thing by what it needs to the thing again."""
    done: set[T] = set()
    for root in roots:
        path: dict[T, Iterator[T]] = {root: iter(needs(root))} if root not in done else {}
        while path:  # without recursion: a chain may be longer than Python's stack
            here = next(reversed(path))
            below = next(path[here], None)
            if below is None:
                done.add(here)
                del path[here]
            elif below in path:
                chain = list(path)
                yield [*chain[chain.index(below) :], below]
            elif below not in done:
                path[below] = iter(needs(below))
