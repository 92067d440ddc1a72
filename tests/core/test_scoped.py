"""`scoped`: every kind of factory, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import current_thread, main_thread
from typing import Annotated, Any, Generic, TypeVar

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import Resource, lifespan, running, scoped
from tenure.errors import CalledDirectly, DeclarationError
from tests.core import annotated_later

T = TypeVar("T")
log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


async def async_generator() -> AsyncIterator[str]:
    """Make a value and end it."""
    yield "value"
    log.append("closed")


def generator() -> Iterator[str]:
    """Make a value and end it, in a thread."""
    assert current_thread() is not main_thread()
    yield "value"
    assert current_thread() is not main_thread()
    log.append("closed")


async def coroutine() -> str:
    """Make a value."""
    return "value"


def function() -> str:
    """Make a value, in a thread."""
    assert current_thread() is not main_thread()
    return "value"


class AsyncContext:
    """An async context manager that gives a value."""

    async def __aenter__(self) -> str:
        return "value"

    async def __aexit__(self, *error: object) -> None:
        log.append("closed")


class Context:
    """A context manager that gives a value."""

    def __enter__(self) -> str:
        return "value"

    def __exit__(self, *error: object) -> None:
        log.append("closed")


class Callable:
    """An object that makes a value when it is called."""

    async def __call__(self) -> str:
        """Make a value."""
        return "value"


class Provider:
    """A class whose method makes a value."""

    def __init__(self, value: str) -> None:
        self.value = value

    async def plain(self) -> str:
        """Make the value."""
        return self.value

    @scoped("app")
    async def resource(self) -> str:
        """Make the value."""
        return self.value


OPENED = [
    async_generator,
    generator,
    AsyncContext,
    Context,
    asynccontextmanager(async_generator),
    contextmanager(generator),
    partial(async_generator),
]
MADE = [coroutine, function, Callable(), Provider("value").plain, partial(function)]


@pytest.mark.parametrize("scope", ["app", "request", "function"])
@pytest.mark.parametrize("factory", [*OPENED, *MADE], ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_every_kind_of_factory_serves_in_every_scope(factory: Any, scope: Any) -> None:
    """Generators, functions, classes, methods, partials and callable objects give their value, and are closed."""
    resource: Resource[str] = scoped(scope)(factory)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(value: Annotated[str, Depends(resource)]) -> str:
        return value

    with TestClient(app) as client:
        assert client.get("/").json() == "value"
    assert log == ["closed"] * (factory in OPENED)


async def test_a_plain_class_is_made() -> None:
    """A class that is no context manager is constructed, once, with what it needs."""

    class Settings:
        pass

    class Service:
        def __init__(self, settings: Annotated[Settings, Depends(Settings)], timeout: float = 3.0) -> None:
            self.settings, self.timeout = settings, timeout

    service = scoped("app")(Service)
    async with running(also=[service]) as scope:
        made = await scope.get(service)
        assert made is await scope.get(service)
    assert (type(made.settings), made.timeout) == (Settings, 3.0)


async def test_a_method_is_a_resource_of_its_instance() -> None:
    """A decorated method is one resource for each instance, the same one at each access."""
    ada, bob = Provider("ada"), Provider("bob")
    assert ada.resource is ada.resource
    async with running(also=[ada.resource, bob.resource]) as scope:
        assert [await scope.get(ada.resource), await scope.get(bob.resource)] == ["ada", "bob"]


def test_a_method_of_objects_with_slots_alone_is_refused() -> None:
    """An object that cannot keep a resource of its own is told so, with the cure."""

    class Slotted:
        __slots__ = ()

        @scoped("app")
        async def resource(self) -> int:
            return 1

    with pytest.raises(DeclarationError, match=r"is a method of .*Slotted, whose objects have slots alone") as caught:
        _ = Slotted().resource
    assert "add `__dict__` to the slots" in caught.value.hint


async def test_a_resource_kept_in_a_class_is_not_bound() -> None:
    """A resource made elsewhere stays itself as a class attribute."""
    made = scoped("app")(coroutine)

    class Holder:
        kept = made

    assert Holder().kept is made


async def test_generic_classes_serve() -> None:
    """A parametrised generic class is constructed as the class is."""

    class Box(Generic[T]):
        pass

    box: Resource[Box[int]] = scoped("app", name="box")(Box[int])
    async with running(also=[box]) as scope:
        assert isinstance(await scope.get(box), Box)


def test_a_resource_called_by_hand_says_how_to_write_it() -> None:
    """`Depends(pool())` is refused on the spot, with the cure."""
    pool = scoped("app")(coroutine)
    with pytest.raises(CalledDirectly, match=r"write `Depends\(coroutine\)`, without brackets"):
        Depends(pool())
    assert asyncio.run(pool.factory()) == "value"


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: scoped("session")(coroutine), "there is no scope 'session'"),  # type: ignore[arg-type]
        (lambda: scoped("app")("text"), "'text' cannot be a resource's factory"),  # type: ignore[call-overload]
        (lambda: scoped("app")(scoped("app")(coroutine)), "cannot be a resource's factory"),
        (lambda: scoped("app", start_timeout=0)(coroutine), "must be above 0 seconds"),
        (lambda: scoped("app", close_timeout=float("nan"))(coroutine), "must be above 0 seconds"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(declare: Any, message: str) -> None:
    """A wrong scope, factory or timeout is an error where it is written."""
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert message in str(caught.value)


def test_an_annotation_that_cannot_be_read_is_named() -> None:
    """A parameter whose type is not defined at run time is named with its factory and place."""

    @scoped("request")
    async def visitor(user: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821

    app = FastAPI(lifespan=lifespan)
    with pytest.raises(DeclarationError, match="`visitor` has a parameter `user` whose annotation cannot be read"):

        @app.get("/")
        async def index(_v: Annotated[None, Depends(visitor)]) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("asyncio.Nowhere", "AttributeError: module 'asyncio' has no attribute 'Nowhere'"),
        ("len['x']", "TypeError: 'builtin_function_or_method' object is not subscriptable"),
    ],
)
async def test_an_annotation_that_raises_is_named_with_what_it_raises(annotation: str, reason: str) -> None:
    """Whatever a parameter's type raises when it is read, the factory, the parameter and the place are told."""

    async def visitor(user: Any) -> None: ...

    visitor.__annotations__["user"] = annotation
    with pytest.raises(DeclarationError, match="`visitor` has a parameter `user` whose annotation cannot") as caught:
        async with running(also=[scoped("app")(visitor)]):
            pytest.fail("it started")
    assert reason in caught.value.message
    assert "declared at tests/core/test_scoped.py:" in caught.value.path[0]


def test_a_return_annotation_need_not_exist() -> None:
    """What only a type checker sees may stand in the return annotation."""

    @scoped("request")
    async def visitor(n: "int" = 1) -> "Nowhere":  # type: ignore[name-defined] # noqa: F821
        return n

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(n: Annotated[int, Depends(visitor)]) -> int:
        return n

    with TestClient(app) as client:
        assert client.get("/?n=3").json() == 3


def test_a_resource_shows_itself() -> None:
    """Its representation has scope, name and place; its docstring is the factory's."""
    pool = scoped("app", name="main pool")(coroutine)
    assert repr(pool).startswith("<app-scoped main pool at tests/core/test_scoped.py:")
    assert pool.__doc__ == "Make a value."


def test_string_annotations_and_aliases_work() -> None:
    """With `from __future__ import annotations`, aliases may even be declared after the factories that use them."""
    with TestClient(annotated_later.app) as client:
        assert client.get("/", headers={"more": "5"}).json() == [2, 5]
