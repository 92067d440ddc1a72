"""Values of one request: made once, whoever asks, and closed on FastAPI's own exit stacks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

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


async def instance(
    resource: Resource[Any], connection: HTTPConnection, inputs: Mapping[str, Any], *, key: Hashable, use_cache: bool
) -> Any:  # noqa: ANN401 (any value)
    """Give the request's value of a resource, making it when it is the first or `use_cache` is off."""
    request_stack = _stack(connection, REQUEST_STACK, resource)
    # A middleware may send one ASGI scope through the app twice; what the first pass closed must not serve the second.
    owner, kept = connection.scope.get(INSTANCES, _NO_INSTANCES)
    if owner is not request_stack:
        kept = {}
        connection.scope[INSTANCES] = (request_stack, kept)
    elif use_cache and key in kept:
        return kept[key]
    if resource.kind.closes:
        stack = _stack(connection, FUNCTION_STACK, resource) if resource.scope == "function" else request_stack
        cleanup = _cleanup_scope(connection, request_stack)
        context = resource.context(**inputs)
        value = await context.__aenter__()
        stack.push_async_exit(_ClosedInPeace(context, cleanup))
    else:
        value = await made(resource.factory, resource.kind, inputs)
    kept.setdefault(key, value)
    return value


_NO_INSTANCES: tuple[None, dict[Hashable, Any]] = (None, {})


def _stack(connection: HTTPConnection, name: str, resource: Resource[Any]) -> AsyncExitStack:
    stack = connection.scope.get(name)
    if not isinstance(stack, AsyncExitStack):
        msg = f"`{resource.name}` has nowhere to be closed: this FastAPI keeps no exit stack at `{name}`"
        raise UnsupportedFastAPI(msg, hint="use a version of FastAPI that this version of tenure is tested with")
    return stack


def _cleanup_scope(connection: HTTPConnection, request_stack: AsyncExitStack) -> CancelScope:
    """
    Give the request's one cancel scope for closing, entered before all others, as anyio's scopes must nest.

    Newer versions of FastAPI make the same scope, under the same key, for their own generators; it is theirs if it is
    there.
    """
    scopes: dict[AsyncExitStack, CancelScope] = connection.scope.setdefault(CLEANUP_SCOPES, {})
    scope = scopes.get(request_stack)
    if scope is None:
        scope = scopes[request_stack] = request_stack.enter_context(CancelScope())
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
