"""`ProbeFilter`: what nobody wants to read in traces and access logs, as one says it to each that writes them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PATHS = ("/livez", "/readyz", "/metrics", "/ops")
_PLACE_OF_PATH = 2
"""In the arguments of a line of uvicorn's access log, which are the client, the method, the path and others."""


class ProbeFilter(logging.Filter):
    r"""
    Leaves probes, scrapes and the page out of traces, metrics of requests, and access logs.

    It is what ``FastAPI(telemetry={"exclude": …})`` takes, a filter of the logger ``uvicorn.access``, and has the
    regular expression that ``opentelemetry-instrumentation-fastapi`` takes.

    Attributes:
        excluded_urls: For ``FastAPIInstrumentor.instrument_app(app, excluded_urls=…)``, or the environment variable
            `OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`.

    Args:
        paths: Those that are left out, with all that is below them.
        prefix: What stands before them: that of the router, and of a proxy that leaves its own in the path.
    """

    def __init__(self, *paths: str, prefix: str = "") -> None:
        super().__init__()
        said = "|".join(re.escape(path) for path in paths or PATHS)
        below = f"{re.escape(prefix)}(?:{said})(?:/|$)"
        self.excluded_urls = f"^[^:]+://[^/]+{below}"
        self._is_probe = re.compile(below).match

    def __call__(self, scope: MutableMapping[str, Any]) -> bool:
        """Tell whether a request or connection is left out, by its ASGI scope."""
        path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
        return self._is_probe(path) is not None or self._is_probe(path.removeprefix(root)) is not None

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line of uvicorn's access log is written; any other is."""
        arguments = record.args
        if not isinstance(arguments, tuple) or len(arguments) <= _PLACE_OF_PATH:
            return True
        return self._is_probe(str(arguments[_PLACE_OF_PATH]).partition("?")[0]) is None
