"""`tenure health`: a running app, asked once from outside. Without FastAPI, Typer or Rich, for it is asked often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.cli.asking import address, ask
from tenure.cli.exits import Exit
from tenure.cli.lines import notice, refuse, tell, tell_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenure.cli.asking import Answer

TIMEOUT = 5.0
"""Seconds that an answer may take, unless said otherwise."""


def plainly(words: Sequence[str]) -> Exit | None:
    """Do what ``health URL`` or ``health URL --timeout 2`` asks for; of any other words, nothing."""
    match words:
        case ["health", url]:
            seconds = str(TIMEOUT)
        case ["health", url, "--timeout", seconds] | ["health", "--timeout", seconds, url]:
            pass
        case _:
            return None
    plain = seconds.replace(".", "", 1).isdecimal() and float(seconds) > 0 and not url.startswith("-")
    return health(url, float(seconds), as_json=False) if plain else None


def health(url: str, timeout: float, *, as_json: bool) -> Exit:
    """Ask once, and say what the answer says."""
    try:
        answer = ask(address(url), timeout)
    except ValueError as error:
        refuse(str(error))
        return Exit.USAGE
    tell_answer(answer, as_json=as_json)
    if answer.is_late:
        return Exit.TIMEOUT
    return Exit.FINE if answer.is_healthy else Exit.FINDINGS


def tell_answer(answer: Answer, *, as_json: bool) -> None:
    """Say what an answer says; that none came is no data."""
    if as_json:
        tell_document(answer.document())
    elif answer.status is None:
        notice(answer.lines())
    else:
        tell(answer.lines())
