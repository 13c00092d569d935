"""Log configuration: readable lines on a terminal, one JSON object per line otherwise; always on stderr.

It covers `logging.getLogger(__name__)` and `structlog.get_logger()` alike, so that the lines of libraries (uvicorn,
httpx) have the same form as ours.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from cortex.config.settings import LogConfig

__all__ = ["configure"]

_NOISY = (
    "httpx",
    "httpcore",
    "uvicorn.access",
    "uvicorn.error",
    "asyncio",
    "huggingface_hub",
    "filelock",
)
"""Libraries whose INFO lines, per request or per start, repeat ours and cost CPU time per request."""


def configure(config: LogConfig) -> None:
    """Send every log line of this process to stderr in the configured form. Call it before anything logs, and again to
    change it."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(config)],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(config.level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _renderers(config: LogConfig) -> list[structlog.types.Processor]:
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    if console:
        # plain tracebacks: rich ones print local variables, which hold prompts and keys
        plain = structlog.dev.plain_traceback
        colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
