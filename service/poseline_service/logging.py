"""Log lines: one JSON object each on stderr, for our own events and for uvicorn's.

Never a payload, never a pose: identifiers, codes, counts and durations only. `request_id` and `session_id` are bound as
context variables where a request or a session begins, so every line below carries them.
"""

from __future__ import annotations

import logging
import sys

import structlog

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers through one JSON renderer."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Our own lines tell it better; at DEBUG they would tell payloads, and httpx the addresses of webhook targets at INFO.
    for library in ("uvicorn", "websockets", "httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)


log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("poseline")
