"""What crosses to an object's process arrives as what it was, and what cannot cross fails its own call alone."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import SecretStr

from tenure import running
from tenure.errors import NotSerialisable
from tests.remote.carried import Carrier, Found, Login, Numbers, Strict, Unspeakable, carrier
from tests.remote.things import Point
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tenure.remote import Remote


@pytest.fixture
async def handle(place: Path) -> AsyncIterator[Remote[Carrier]]:
    """Run it, and give its handle on the object."""
    del place
    async with running(also=[carrier]) as scope:
        yield await scope.get(carrier)


async def test_classes_arrive_as_such(handle: Remote[Carrier]) -> None:
    """Models with aliases, secrets, strict fields or a root, and dataclasses with arrays, cross in both directions."""
    login = Login.model_validate({"userName": "ada", "from": "1843-01-01", "password": "hunter2"})
    assert await handle(Carrier.login, login) == login
    assert (await handle(Carrier.login, login)).password == SecretStr("hunter2")
    assert await handle(Carrier.strict, Strict(day=date(1843, 1, 1))) == Strict(day=date(1843, 1, 1))
    assert await handle(Carrier.numbers, Numbers([1, 2])) == Numbers([1, 2])
    found = await handle(Carrier.found, Found([1], np.ones(2)))
    assert isinstance(found, Found)
    assert (found.ids, found.vectors.tolist()) == ([1, 1], [2.0, 2.0])


async def test_each_of_any_number_of_arguments_is_what_its_annotation_says(handle: Remote[Carrier]) -> None:
    """Those after a star, and those by any name, are as those that the method names."""
    point = Point(1, 2)
    assert await handle(Carrier.kinds, point, point, point, other=point, points=point) == ["Point"] * 5


async def test_annotations_may_be_imported_for_type_checkers_alone(handle: Remote[Carrier]) -> None:
    """What `collections.abc` and `typing` have is known, wherever tools have moved the import."""
    points = [Point(1, 2), Point(3, 4)]
    assert [point async for point in handle(Carrier.points, points)] == points


async def test_an_answer_that_cannot_be_read_fails_its_call_alone(handle: Remote[Carrier]) -> None:
    """More often than calls may wait, and beside others: each is told so, and none stays."""
    for _ in range(3):
        answers = await asyncio.gather(
            handle(Carrier.unset), handle(Carrier.greet, "ada"), handle(Carrier.greet, "bob"), return_exceptions=True
        )
        assert isinstance(answers[0], NotSerialisable)
        assert answers[1:] == ["hello ada", "hello bob"]
    assert await asyncio.gather(*(handle(Carrier.greet, "ada") for _ in range(4))) == ["hello ada"] * 4


async def test_an_item_that_cannot_be_read_ends_its_stream(handle: Remote[Carrier], place: Path) -> None:
    """What came before is given, and the generator does not run on."""
    stream = aiter(handle(Carrier.many_unset))
    assert await anext(stream) == 1
    with pytest.raises(NotSerialisable):
        await anext(stream)
    await until((place / "many ended").exists)


async def test_an_error_without_words_arrives(handle: Remote[Carrier]) -> None:
    """From a thread and from the event loop; the next call is answered."""
    for method in (Carrier.unspeakable, Carrier.unspeakable_later):
        with pytest.raises(Unspeakable) as raised:
            await handle(method)  # type: ignore[arg-type] # either takes nothing
        assert raised.value.args == (3,)
    assert await handle(Carrier.greet, "ada") == "hello ada"


async def test_an_error_of_the_system_arrives_with_what_it_is_about(handle: Remote[Carrier]) -> None:
    """Its number and its file too, also where the file's name is no UTF-8."""
    with pytest.raises(FileNotFoundError, match=r"\[Errno 2\] No such file or directory: '/nowhere/at/all'") as raised:
        await handle(Carrier.missing)
    assert (raised.value.errno, raised.value.filename) == (2, "/nowhere/at/all")
    with pytest.raises(Exception, match=r"FileNotFoundError: .*No such file"):
        await handle(Carrier.undecodable)


async def test_an_error_says_no_more_than_can_be_sent(handle: Remote[Carrier]) -> None:
    """Of a very long one the end is told."""
    with pytest.raises(Exception, match="LookupError: xxx") as raised:
        await handle(Carrier.immense)
    assert len(str(raised.value)) < 100_000
