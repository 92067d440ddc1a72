"""What is done once for eight workers of two machines, while it fails and while the one that does it is killed."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.acceptance.machines import PATIENCE, WORKERS, connected, running, until

pytestmark = pytest.mark.timeout(240)  # two servers of four workers each start, and a lease of ten seconds runs out


def test_another_goes_on_when_the_one_that_does_it_is_killed(dsn: str) -> None:
    """Killed -9 half-way, it is followed by a worker that waits; all others, and the one in its place, go on then."""
    with running(dsn, dsn) as pair:
        killed = pair.until_one_has_begun()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(pair.noted("began")) == 2, lambda: f"nobody follows:\n{pair.log}")
        pair.allow("migrate")
        with connected(*pair.machines) as connections:
            pids = {connection.pid for connection in connections}
        following = pair.noted("began")[1][0]
        assert [pid for pid, _ in pair.noted("ended")] == [following]
        assert {pid for pid, _ in pair.noted("ready")} == pids
        assert following in pids - {killed}
        assert len(pids) == 2 * WORKERS


def test_its_failure_fails_all_starts(dsn: str) -> None:
    """One worker does it and fails; no other tries it or serves without it, and both servers exit."""
    with running(dsn, dsn) as pair:
        failing = pair.until_one_has_begun()
        pair.allow("fail")
        pair.allow("migrate")
        for machine in pair.machines:
            machine.server.wait(PATIENCE)
            assert "the table is not as it should be" in machine.log
            assert "Application startup complete" not in machine.log
        assert f"it failed in process {failing}, which ran it for all" in pair.log
        assert [len(pair.noted(what)) for what in ("began", "ended", "ready")] == [1, 0, 0]
