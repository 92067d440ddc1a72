"""`tenure wait`: a running app, asked until it is well."""

from __future__ import annotations

import time

from rich.text import Text

from tenure.cli.asking import address, ask
from tenure.cli.exits import Exit
from tenure.cli.health import tell_answer
from tenure.cli.lines import notice, refuse
from tenure.cli.terminal import notices

LONGEST_QUESTION = 5.0
"""Seconds that one question may take: a server that hangs may answer the next one."""


def wait(url: str, timeout: float, interval: float, *, as_json: bool) -> Exit:
    """Ask until the answer is good, and say on the way what is waited for."""
    end, console, said = time.monotonic() + timeout, notices(), ""
    try:
        url = address(url)
    except ValueError as error:
        refuse(str(error))
        return Exit.USAGE
    with console.status(Text(f"waiting for {url}")) as status:  # in a terminal alone
        answer = ask(url, min(timeout, LONGEST_QUESTION))
        while not answer.is_healthy and (left := end - time.monotonic()) > interval:
            if (waits_for := answer.waits_for()) != said:
                said = waits_for
                status.update(Text(f"waiting: {said}"))
                if not console.is_terminal:
                    notice([f"waiting: {said}"])
            time.sleep(interval)
            limit = min(left - interval, LONGEST_QUESTION)
            last = ask(url, limit)
            if last.is_late and limit < LONGEST_QUESTION:
                break  # what was answered before says more than a question for which too little time was left
            answer = last
    if not answer.is_healthy:
        notice([f"{url} was not well within {timeout:g} s"])
    tell_answer(answer, as_json=as_json)
    return Exit.FINE if answer.is_healthy else Exit.TIMEOUT
