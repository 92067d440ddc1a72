"""Values of one request: made once, whoever asks, and closed on FastAPI's own exit stacks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from tenure.cancellation import in_cancel_scope
from tenure.errors import UnsupportedFastAPI
from tenure.factories import made

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from types import TracebackType

    from starlette.requests import HTTPConnection

    from tenure.resources import Resource

INSTANCES = "tenure_instances"
REQUEST_STACK = "fastapi_inner_astack"
FUNCTION_STACK = "fastapi_function_astack"
CLEANUP_SCOPES = "fastapi_async_cleanup_scopes"


class Instances:
    """
    What one pass of a request through an app has made.

    Attributes:
        stack: The request's exit stack, by which one pass is told from another.
        values: Each value, by its resource and what tells it apart from others of that resource.
        cleanup: The cancel scope that shields what is closed; nothing where no cancel scope is around the request.
        is_settled: Whether it was decided if there is to be one.
    """

    __slots__ = ("cleanup", "is_settled", "stack", "values")

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.values: dict[Hashable, Any] = {}
        self.cleanup: CancelScope | None = None
        self.is_settled = False


async def instance(  # noqa: PLR0913 (each says how it is asked for)
    resource: Resource[Any],
    connection: HTTPConnection,
    inputs: Mapping[str, Any],
    *,
    key: Hashable,
    use_cache: bool,
    is_alone: bool = False,
) -> Any:  # noqa: ANN401 (any value)
    """
    Give the request's value of a resource, making it when it is the first or `use_cache` is off.

    `is_alone` says that nothing but resources is opened for the request, so that only they need a cancel scope.
    """
    stack = exit_stack(connection, REQUEST_STACK, resource)
    made_so_far = _instances(connection, stack)
    if use_cache and key in made_so_far.values:
        return made_so_far.values[key]
    if resource.kind.closes:
        cleanup = made_so_far.cleanup if made_so_far.is_settled else _settle(made_so_far, connection, is_alone)
        context = resource.context(**inputs)
        value = await context.__aenter__()
        if resource.scope == "function":
            stack = exit_stack(connection, FUNCTION_STACK, resource)
        stack.push_async_exit(context if cleanup is None else _ClosedInPeace(context, cleanup))
    else:
        value = await made(resource.factory, resource.kind, inputs)
    made_so_far.values.setdefault(key, value)
    return value


def _instances(connection: HTTPConnection, stack: AsyncExitStack) -> Instances:
    instances: Instances | None = connection.scope.get(INSTANCES)
    # A middleware may send one ASGI scope through the app twice; what the first pass closed must not serve the second.
    if instances is None or instances.stack is not stack:
        instances = connection.scope[INSTANCES] = Instances(stack)
    return instances


def exit_stack(connection: HTTPConnection, key: str, dependency: Resource[Any] | str) -> AsyncExitStack:
    """
    Give one of a request's exit stacks, for what a dependency opens.

    Raises:
        UnsupportedFastAPI: There is none where it is known to be.
    """
    stack = connection.scope.get(key)
    if not isinstance(stack, AsyncExitStack):
        name = dependency if isinstance(dependency, str) else dependency.name
        msg = f"`{name}` has nowhere to be closed: this FastAPI keeps no exit stack at `{key}`"
        raise UnsupportedFastAPI(msg, hint="use a version of FastAPI that this version of tenure is tested with")
    return stack


def closed_in_peace(connection: HTTPConnection, dependency: str) -> CancelScope:
    """
    Have all that is opened from now on for a request closed in peace, for a dependency that may cancel the request.

    Returns:
        The scope that shields while something is closed.

    Raises:
        UnsupportedFastAPI: As `exit_stack`.
    """
    stack = exit_stack(connection, REQUEST_STACK, dependency)
    instances = _instances(connection, stack)
    instances.is_settled = True
    instances.cleanup = scope = _cleanup_scope(_cleanup_scopes(connection), stack)
    return scope


def _settle(instances: Instances, connection: HTTPConnection, is_alone: bool) -> CancelScope | None:  # noqa: FBT001
    """
    Give the request's one cancel scope for closing, entered before all others, as anyio's scopes must nest.

    Newer versions of FastAPI make the same scope, under the same key, for their own generators; it is theirs if it is
    there. It shields from scopes around it, so where there is none it is left out: it takes longer than all the rest.
    """
    instances.is_settled = True
    scopes = _cleanup_scopes(connection)
    if not is_alone or in_cancel_scope():
        instances.cleanup = _cleanup_scope(scopes, instances.stack)
    return instances.cleanup


def _cleanup_scopes(connection: HTTPConnection) -> dict[AsyncExitStack, CancelScope]:
    scopes: dict[AsyncExitStack, CancelScope] = connection.scope.setdefault(CLEANUP_SCOPES, {})
    return scopes


def _cleanup_scope(scopes: dict[AsyncExitStack, CancelScope], stack: AsyncExitStack) -> CancelScope:
    scope = scopes.get(stack)
    if scope is None:
        scope = scopes[stack] = stack.enter_context(CancelScope())
    return scope


class _ClosedInPeace(AbstractAsyncContextManager[Any, bool | None]):
    """A context, entered already, whose close is shielded from the cancellation that brought it about."""

    __slots__ = ("_cleanup", "_context")

    def __init__(self, context: AbstractAsyncContextManager[Any], cleanup: CancelScope) -> None:
        self._context = context
        self._cleanup = cleanup

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        cleanup = self._cleanup
        shielded_before = cleanup.shield
        cleanup.shield = True
        try:
            suppressed = await self._context.__aexit__(kind, error, traceback)
        finally:
            cleanup.shield = shielded_before
        if error is None or suppressed:
            await checkpoint_if_cancelled()
        return suppressed
