"""Results of whatever kind are compared by the numbers in them: an item alone gives what it gives in a batch."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import UUID

import numpy as np
import pytest

from tenure import running
from tenure.errors import StartFailed
from tenure.models import NotInvariant, model
from tenure.ops import Degraded
from tests.models.test_batches import served

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(slots=True)
class Slotted:
    """A result without a `__dict__`."""

    word: str
    score: Any
    seconds: float = field(default=0, compare=False)


@dataclass
class Dated:
    """A result of which one part says nothing of the others."""

    score: float
    seconds: float = field(default=0, compare=False)


class Parent:
    """Has a slot that a subclass does not name."""

    __slots__ = ("__hidden",)

    def __init__(self, hidden: float) -> None:
        self.__hidden = hidden

    def is_above(self, bound: float) -> bool:
        """Read it."""
        return self.__hidden > bound


class Child(Parent):
    """Has two slots, of which one may be empty."""

    __slots__ = ("score",)

    def __init__(self, hidden: float, *scores: float) -> None:
        super().__init__(hidden)
        for score in scores:
            self.score = score


class Grown(Child):
    """Has a `__dict__` beside them."""

    def __init__(self, hidden: float, *scores: float) -> None:
        super().__init__(hidden, *scores)
        self.word = "a"


class Named(NamedTuple):
    """A result that is a sequence."""

    word: str
    score: float


class Word(str):  # noqa: SLOT000 (as programs write them)
    """A text that has a score as well."""

    score: float

    def __new__(cls, text: str, score: float) -> Self:
        """Make one."""
        made = super().__new__(cls, text)
        made.score = score
        return made


class Tensor:
    """Numbers of a library of its own, of which `==` gives one answer for each, as torch's does."""

    __hash__ = None  # type: ignore[assignment] # as those of arrays have none

    def __init__(self, *numbers: float) -> None:
        self._numbers = np.array(numbers)

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float64]:
        """Give them to numpy."""
        return self._numbers

    def __eq__(self, other: object) -> Any:
        return self._numbers == other


class Unsaid:
    """Has nothing that one could look at, and its `==` gives many answers."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment] # likewise

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


class Failing:
    """Cannot be compared at all."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment] # likewise

    def __eq__(self, other: object) -> bool:
        msg = "it is gone"
        raise RuntimeError(msg)


class Elsewhere:
    """Is on a device whose numbers cannot be read from here."""

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float64]:
        """Refuse."""
        msg = "copy it to the host first"
        raise TypeError(msg)


class Endless:
    """Holds itself."""

    def __init__(self) -> None:
        self.parent = self


async def refusal(function: Callable[[list[int]], list[Any]]) -> NotInvariant:
    """Start an app with a model that must stop the start, and give the cause."""
    with pytest.raises(StartFailed) as raised:
        async with running(also=[model(load=lambda: function, warmup=[1], max_batch=2)]):
            pass
    cause = raised.value.__cause__
    assert isinstance(cause, NotInvariant)
    return cause


@pytest.mark.parametrize(
    ("alone", "together", "agree"),
    [
        (1.0, 1.0005, True),
        (1.0, 1.01, False),
        ([0.0, 1000.0], [0.5, 1000.0], True),
        ([0.0, 1.0], [0.5, 1.0], False),
        ([1.0], [1.0, 2.0], False),
        ({"score": 0.5, "word": "a"}, {"score": 0.50001, "word": "a"}, True),
        ({"score": 0.5, "word": "a"}, {"score": 0.5, "word": "b"}, False),
        ({"a": 1}, {"b": 1}, False),
        (float("nan"), float("nan"), True),
        (float("inf"), 1.0, False),
        (True, False, False),
        ("a", "a", True),
        (b"a", b"b", False),
        (None, None, True),
        (0, 0.0, True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0001]), True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.1]), False),
        (Degraded("a"), Degraded("a"), True),
        (Slotted("a", 1.0), Slotted("a", 1.0001), True),
        (Slotted("a", 1.0), Slotted("a", 1.1), False),
        (Slotted("a", 1.0), Slotted("b", 1.0), False),
        (Slotted("a", 1.0, seconds=3), Slotted("a", 1.0, seconds=5), True),
        (Slotted("a", np.array([1.0, 2.0])), Slotted("a", np.array([1.0, 2.0001])), True),
        (Slotted("a", np.array([1.0, 2.0])), Slotted("a", np.array([1.0, 2.1])), False),
        (Slotted("a", 1.0), [Slotted("a", 1.0)], False),
        (Dated(1.0, seconds=3), Dated(1.0001, seconds=5), True),
        (Dated(1.0), Dated(1.1), False),
        (Child(1.0, 2.0), Child(1.0, 2.0001), True),
        (Child(1.0, 2.0), Child(1.1, 2.0), False),
        (Child(1.0, 2.0), Child(1.0), False),
        (Child(1.0, 2.0), Grown(1.0, 2.0), False),
        (Grown(1.0, 2.0), Grown(1.0, 2.0001), True),
        (Grown(1.0, 2.0), Grown(1.1, 2.0), False),
        (Named("a", 1.0), Named("a", 1.0001), True),
        (Named("a", 1.0), Named("a", 1.1), False),
        (Word("a", 1.0), Word("a", 1.0001), True),
        (Word("a", 1.0), Word("b", 1.0), False),
        (Word("a", 1.0), Word("a", 1.1), False),
        (Tensor(1.0, 2.0), Tensor(1.0, 2.0001), True),
        (Tensor(1.0, 2.0), Tensor(1.0, 2.1), False),
        ({"row": Tensor(1.0)}, {"row": [1.0]}, True),
        (array("d", [1.0]), array("d", [1.0001]), True),
        (UUID(int=10**30), UUID(int=10**30), True),
        (UUID(int=10**30), UUID(int=10**30 + 1), False),
        (1j, 1.0001j, True),
        (np.array([1j]), np.array([1.1j]), False),
        (np.longdouble(1), np.longdouble(1.0001), True),
        (Decimal("1.0000"), Decimal("1.0001"), True),
        (Fraction(1, 3), Fraction(1, 2), False),
        pytest.param(10**400, 10**400, True, id="as many digits as no float has"),
        pytest.param(10**400, 1.0, False, id="as many against one"),
    ],
)
async def test_results_are_compared_by_what_they_hold(alone: object, together: object, agree: bool) -> None:  # noqa: FBT001
    """Numbers may be a thousandth of the largest apart: in fields, slots, any library's arrays; all else is equal."""

    def function(items: list[int]) -> list[object]:
        return [alone] if len(items) == 1 else [together] * len(items)

    if agree:
        async with served(function, warmup=[1], max_batch=2):
            pass
    else:
        assert "another result in a batch of 2 than alone" in (await refusal(function)).message


@pytest.mark.parametrize(
    ("kind", "cause"),
    [(Unsaid, ValueError), (Failing, RuntimeError), (Elsewhere, TypeError), (Endless, RecursionError)],
)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: {"rows": [value]}, lambda value: Slotted("a", value)]
)
async def test_what_cannot_be_compared_is_refused(
    kind: type, cause: type[Exception], wrap: Callable[[Any], Any]
) -> None:
    """The start ends with its type and with what to do, wherever it stands in a result; or nothing is compared."""

    def function(items: list[int]) -> list[Any]:
        return [wrap(kind()) for _ in items]

    raised = await refusal(function)
    assert f"of two {__name__}.{kind.__name__} it cannot be told whether they are equal" in raised.message
    assert "`invariant=False`" in raised.hint
    assert isinstance(raised.__cause__, cause)
    async with served(function, warmup=[1], max_batch=2, invariant=False):
        pass
