"""The count of a host against a model of it: workers join, add, fork, leave and are killed in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tests.state.workers import Worker

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NUMBERS: SearchStrategy[int] = st.integers(-(2**40), 2**40)


class Counting(RuleBasedStateMachine):
    """Workers that share one count, beside a number that says what it should be."""

    workers = Bundle("workers")
    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tenure-test-"))
        self.living: list[Worker] = []
        self.expected = 0
        self.most = 0

    @rule(target=workers)
    @precondition(lambda self: len(self.living) < 4)
    def join(self) -> Worker:
        """A worker joins; the first begins anew unless the count is durable."""
        if not self.living and not self.durable:
            self.expected = 0
        worker = Worker(self.folder, durable=self.durable).joined()
        self.living.append(worker)
        self.most = max(self.most, len(self.living))
        return worker

    @rule(worker=workers, n=NUMBERS)
    def add(self, worker: Worker, n: int) -> None:
        """A worker adds from its own thread."""
        self.expected += n
        assert worker.ask("add", n) == self.expected

    @rule(worker=workers, n=NUMBERS)
    def add_in_thread(self, worker: Worker, n: int) -> None:
        """A worker adds from another thread."""
        self.expected += n
        assert worker.ask("add_in_thread", n) == self.expected

    @rule(worker=workers)
    def add_everywhere(self, worker: Worker) -> None:
        """A worker adds from threads and forked children at once."""
        self.expected += worker.ask("add_everywhere", 3)
        self.most = max(self.most, len(self.living) + 2)

    @rule(worker=consumes(workers))
    def leave(self, worker: Worker) -> None:
        """A worker ends in good order."""
        self.living.remove(worker)
        worker.leave()

    @rule(worker=consumes(workers))
    def kill(self, worker: Worker) -> None:
        """A worker is killed while it does nothing."""
        self.living.remove(worker)
        worker.kill()

    @rule(worker=consumes(workers))
    def kill_while_it_joins(self, worker: Worker) -> None:
        """A worker is killed while it keeps others from joining, one of which then takes its place."""
        worker.tell("hold")
        worker.answer()
        self.living.remove(worker)
        waiting = Worker(self.folder, durable=self.durable)
        if not self.living and not self.durable:
            self.expected = 0
        worker.kill()
        assert waiting.joined().ask("value") == self.expected
        waiting.kill()
        self.most = max(self.most, len(self.living) + 2)

    @invariant()
    def all_see_the_same(self) -> None:
        """Every worker reads what was added, no more and no less."""
        assert {worker.ask("value") for worker in self.living} <= {self.expected}

    @invariant()
    def there_are_no_more_rows_than_there_were_processes(self) -> None:
        """Rows are used again."""
        assert len(list(self.folder.glob("row.*"))) <= self.most

    def teardown(self) -> None:
        """End the workers."""
        for worker in self.living:
            worker.kill()
        shutil.rmtree(self.folder)


class CountingForGood(Counting):
    """Likewise, with a count that outlives its workers."""

    durable = True


TestCounting = Counting.TestCase
TestCountingForGood = CountingForGood.TestCase
TestCounting.settings = TestCountingForGood.settings = settings(max_examples=12, stateful_step_count=20)
