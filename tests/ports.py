"""Ports for servers that open them by number."""

import os
import random
import socket
from itertools import cycle

FIRST, EACH, PROCESSES = 20_000, 1000, 12
"""Below the ports that the kernel gives to who asks for any (32768 on): nobody is given one of these meanwhile."""

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
_first = FIRST + _process * EACH
_turn = random.randrange(EACH)  # noqa: S311 (so that two runs at once rarely meet)
_numbers = cycle([*range(_first + _turn, _first + EACH), *range(_first, _first + _turn)])


def free_port() -> int:
    """Give a port on which nobody listens, and that no other test of this run is given."""
    for port in _numbers:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError
