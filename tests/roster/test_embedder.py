"""The model gives the vectors that its makers published, whoever else asks."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from roster.embedder import Embedding, embedder
from roster.network import MAX_CHARACTERS

if TYPE_CHECKING:
    from tenure import Scope
    from tenure.models import Model

pytestmark = pytest.mark.anyio

LONG = "a person who is happy to read a very long text " * 100


@pytest.fixture
async def embed(scope: Scope) -> Model[str, Embedding]:
    """Give the model of the running app."""
    return await scope.get(embedder)


def similarity(one: Embedding, other: Embedding) -> float:
    """Give the cosine of two vectors of length 1."""
    return sum(a * b for a, b in zip(one.vector, other.vector, strict=True))


async def test_gives_the_published_similarities(embed: Model[str, Embedding]) -> None:
    """The example of the model's makers comes out as they published it, but for what eight bits lose."""
    source, dog, happy, sunny = await embed.many(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    found = [similarity(source, other) for other in (dog, happy, sunny)]
    assert found == pytest.approx([0.695, 0.943, 0.257], abs=0.01)


async def test_vectors_have_384_floats_and_length_one(embed: Model[str, Embedding]) -> None:
    """Any text has a vector of the same form, an empty one too."""
    made = await embed.many(["", "naïve café 日本語 🎉", LONG])
    assert [len(each.vector) for each in made] == [384, 384, 384]
    assert [math.hypot(*each.vector) for each in made] == pytest.approx([1, 1, 1])


async def test_a_text_alone_is_as_in_company(embed: Model[str, Embedding]) -> None:
    """An answer does not depend on what else was asked, in the call or at the time, but for rounding."""
    texts = ["a nurse who paints", "", LONG, "Lisbon", "Lisbon and Porto", "music", "chess by post", "a sailor"]
    alone = [(await embed(text)).vector for text in texts]
    together, others = await asyncio.gather(embed.many(texts), embed.many(texts[::-1]))
    for vector, one, other in zip(alone, together, others[::-1], strict=True):
        assert one.vector == pytest.approx(vector, abs=1e-6)
        assert other.vector == pytest.approx(vector, abs=1e-6)


async def test_what_does_not_fit_is_left_out(embed: Model[str, Embedding]) -> None:
    """Only the beginning of a long text counts."""
    long, longer = await embed.many([LONG, LONG + "and something else"])
    assert longer.vector == pytest.approx(long.vector, abs=1e-6)
    spaces, beyond = await embed.many([" " * MAX_CHARACTERS, " " * MAX_CHARACTERS + "not read"])
    assert beyond.vector == pytest.approx(spaces.vector, abs=1e-6)


async def test_a_vector_says_which_model_has_made_it(embed: Model[str, Embedding]) -> None:
    """The version is that of the model: its name, and the first digits of the checksum that was compared."""
    assert (await embed("anything")).version == embed.version == "embedder@8199be6f699a"
