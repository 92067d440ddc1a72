"""A type checker with no plugin refuses wrong uses, as a user would see it."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from mypy import api

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
from collections.abc import AsyncIterator
from fastapi import FastAPI
from tenure import Cache, Counter, Lock, Scope, Topic, lifespan, override, running, scoped

@scoped("app")
async def pool() -> AsyncIterator[int]:
    yield 1

requests = Counter("requests", scope="app")
app = FastAPI(lifespan=lifespan)
"""


def errors_in(folder: Path, source: str) -> list[str]:
    """Check a program under strict rules and give the codes of its errors."""
    program = folder / "program.py"
    program.write_text(HEAD + dedent(source))
    output, trouble, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(folder / "cache"), str(program)])
    assert trouble == ""
    return re.findall(r"error: .*\[([a-z-]+)\]$", output, re.MULTILINE)


@pytest.mark.timeout(300)
def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    """A wrong scope, value, element or option is each an error, and what is right beside it is none."""
    assert errors_in(
        tmp_path,
        """
        async def right(scope: Scope) -> None:
            number: int = await scope.get(pool)
            async with scope.open(pool) as opened:
                number = opened

        async def wrong_value(scope: Scope) -> None:
            word: str = await scope.get(pool)
            async with scope.open(pool) as opened:
                word = opened

        async def wrong_key(scope: Scope) -> None:
            await scope.get(lambda: 1)

        scoped("session")
        scoped("app", timeout=3)
        scoped("app")(1)
        Counter("requests")
        Counter("requests", scope="proces")
        requests.add("1")
        lifespan(also=[lambda: 1])
        override(app, {pool: 1})
        pool.scpe
        """,
    ) == [
        "arg-type",
        "assignment",
        "arg-type",
        "call-overload",
        "call-overload",
        "call-overload",
        "call-overload",
        "call-arg",
        "arg-type",
        "arg-type",
        "list-item",
        "dict-item",
        "attr-defined",
    ]


@pytest.mark.timeout(300)
def test_wrong_uses_of_models_are_refused(tmp_path: Path) -> None:
    """An item, a result or a warm-up that is not what `load` says is an error, as is a word that there is not."""
    assert errors_in(
        tmp_path,
        """
        from collections.abc import Callable
        from tenure.models import Model, model

        def load() -> Callable[[list[str]], list[int]]:
            return lambda texts: [len(text) for text in texts]

        lengths = model(load=load, warmup=["a"], max_batch=2)

        async def right(lengths: Model[str, int]) -> int:
            return await lengths("a") + sum(await lengths.many(["a"]))

        async def wrong(lengths: Model[str, int]) -> str:
            await lengths(1)
            return await lengths("a")

        model(load=load, warmup=[1])
        model(load=load, max_bach=2)
        model(load=load, scope="request")
        """,
    ) == ["arg-type", "return-value", "arg-type", "call-overload", "call-overload", "call-overload"]


@pytest.mark.timeout(300)
def test_wrong_uses_of_handles_are_refused(tmp_path: Path) -> None:
    """A value, message, load or option that is not what the handle says is an error."""
    assert errors_in(
        tmp_path,
        """
        numbers = Cache("numbers", scope="app", type=int)
        news = Topic("news", scope="app", type=int)

        async def right() -> int:
            return 1

        async def wrong() -> str:
            return "1"

        async def use() -> None:
            await numbers.set("a", 1)
            await numbers.get_or_load("a", right)
            await news.publish(1)

            await numbers.set("a", "1")
            await numbers.get_or_load("a", wrong)
            await numbers.set(1, 1)
            number: int = await numbers.get("a")
            await news.publish("1")
            async for message in news.subscribe():
                number = message

        Cache("numbers", type=int)
        Cache("numbers", scope="app", type=1)
        Lock("nightly", scope="app", ttl=3)
        """,
    ) == [
        "arg-type",
        "arg-type",
        "arg-type",
        "assignment",
        "arg-type",
        "assignment",
        "call-overload",
        "call-overload",
        "call-arg",
    ]


@pytest.mark.timeout(300)
def test_wrong_checks_are_refused(tmp_path: Path) -> None:
    """A check of another value, that gives what is no verdict, or with a word that there is not, is an error."""
    assert errors_in(
        tmp_path,
        """
        @pool.health
        async def right(pool: int) -> bool:
            return pool == 1

        @pool.health(critical=True)
        def right_too(pool: int) -> None: ...

        @pool.health
        async def wrong_value(pool: str) -> bool:
            return True

        @pool.health
        async def wrong_verdict(pool: int) -> str:
            return "well"

        @pool.health(every=5)
        async def wrong_value_too(pool: str) -> bool:
            return True

        pool.health(often=5)
        pool.health(timeout="1 s")
        """,
    ) == ["arg-type", "type-var", "arg-type", "call-overload", "call-overload"]
