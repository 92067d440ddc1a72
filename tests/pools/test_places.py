"""The places of a pool, in whatever order borrowers come, wait, give up and give back."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.places import Loan, Places

INDEX = st.integers(0, 20)


class Borrowing(RuleBasedStateMachine):
    """Borrowers of one pool, and what each has had."""

    @initialize(size=st.integers(1, 3))
    def opens(self, size: int) -> None:
        """A pool of a few places."""
        self.loop = asyncio.new_event_loop()
        self.places = self.loop.run_until_complete(self.made(size))
        self.asking: list[asyncio.Task[Loan]] = []
        self.out: list[Loan] = []

    async def made(self, size: int) -> Places:
        """Make it in its loop."""
        return Places("pool", size)

    @rule(patience=st.sampled_from([0, 1000]))
    def asks(self, patience: int) -> None:
        """One asks for a place, and waits for it or does not."""
        self.asking.append(self.loop.create_task(self.places.take((), timeout=patience)))

    @precondition(lambda self: self.out)
    @rule(which=INDEX)
    def asks_for_another(self, which: int) -> None:
        """One who has a place asks for a second."""
        holding = self.out[which % len(self.out)]
        self.asking.append(self.loop.create_task(self.places.take((), timeout=1000, holding=holding)))

    @precondition(lambda self: self.out)
    @rule(which=INDEX)
    def gives_back(self, which: int) -> None:
        """One gives a place back, and once more, which is to change nothing."""
        loan = self.out.pop(which % len(self.out))
        self.places.give_back(loan)
        self.places.give_back(loan)

    @precondition(lambda self: self.asking)
    @rule(which=INDEX)
    def leaves(self, which: int) -> None:
        """One who asks is cancelled."""
        self.asking[which % len(self.asking)].cancel()

    @rule()
    def falls_silent(self) -> None:
        """All who wait are refused."""
        self.places.refuse_waiters(Unreachable("the server is silent"))

    @rule()
    def time_passes(self) -> None:
        """Everyone has had a turn, who is not waiting by now has or has not a place."""
        self.loop.run_until_complete(asyncio.sleep(0.001))
        for task in [task for task in self.asking if task.done()]:
            self.asking.remove(task)
            if not task.cancelled() and task.exception() is None:
                self.out.append(task.result())
            elif not task.cancelled():
                assert isinstance(task.exception(), (PoolExhausted, NestedBorrow, Unreachable))
        assert self.places.loans == set(self.out)
        assert self.places.waiting == len(self.asking)
        assert not self.asking or len(self.out) == self.places.size  # nobody waits beside a free place

    @invariant()
    def no_more_are_out_than_there_are(self) -> None:
        """A place is never given twice."""
        if hasattr(self, "places"):
            assert len(self.places.loans) <= self.places.size

    def teardown(self) -> None:
        """Let all leave: as many places are free as there were."""
        if not hasattr(self, "places"):
            return
        for task in self.asking:
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.001))
        for loan in list(self.places.loans):
            self.places.give_back(loan)
        for _ in range(self.places.size):
            self.loop.run_until_complete(self.places.take((), timeout=0))
        assert (len(self.places.loans), self.places.waiting) == (self.places.size, 0)
        self.loop.close()


Borrowing.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestPlaces = Borrowing.TestCase
