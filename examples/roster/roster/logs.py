"""Logging: the standard library's, rendered by structlog; readable in a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog


def configure() -> None:
    """
    Render what the service and its libraries log at INFO and above, to standard error.

    Loggers that a server has configured for itself, such as uvicorn's access log, are left alone. Tracebacks come
    without local variables, for these hold what users wrote.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    rendering: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        rendering = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it names its dialect each time that it is asked anything
    logging.basicConfig(level=logging.INFO, handlers=[handler])
