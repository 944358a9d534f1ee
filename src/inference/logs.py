"""What the service writes: errors and accesses as text, or as one JSON object a line.

`LOG_FORMAT=json` chooses the latter. Errors go to stderr, accesses to stdout.
"""

import logging
import os
import select
import stat
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from gunicorn.config import Config
from gunicorn.glogging import Logger as GunicornLogger

from inference.errors import ConfigurationError

VARIABLE = "LOG_FORMAT"
TEXT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


def as_json() -> bool:
    """Whether LOG_FORMAT asks for JSON.

    Raises:
        ConfigurationError: It asks for something else.
    """
    form = os.environ.get(VARIABLE) or "text"
    if form not in ("text", "json"):
        raise ConfigurationError(f"{VARIABLE}: expected text or json, not {form!r}")
    return form == "json"


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, its stack trace in it."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class Logger(GunicornLogger):
    """gunicorn's log, in our format, and with what the service itself has to say."""

    def setup(self, cfg: Config) -> None:
        """Give every logger of this process the same handlers."""
        super().setup(cfg)
        formatter = JsonFormatter() if as_json() else logging.Formatter(TEXT)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)
        root = logging.getLogger()
        root.handlers = self.error_log.handlers
        root.setLevel(self.loglevel)


class AccessLog:
    """One line a request, written at once: what a killed process answered stands there too."""

    def __init__(self) -> None:
        self._json = as_json()
        self._descriptor = sys.stdout.fileno()
        # a pipe or a terminal, whose reader may stop reading
        self._may_fill = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def write(self, scope: Any, request_id: str, status: int, seconds: float) -> None:  # noqa: ANN401 - an ASGI scope
        """Write one line; a log that nobody takes does not stop the service."""
        if self._may_fill and not select.select([], [self._descriptor], [], 0)[1]:
            return
        # as it was sent: control characters stand encoded in it
        path = scope["raw_path"][:200].decode("ascii", "replace")
        line = {
            "time": datetime.now(UTC),
            "client": scope["client"][0] if scope["client"] else None,
            "method": scope["method"],
            "path": path,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "request_id": request_id,
        }
        if self._json:
            message = f"{scope['method']} {path} {status}"
            line |= {"level": "info", "logger": "access", "message": message}
            text = orjson.dumps(line)
        else:
            text = " ".join(map(str, line.values())).encode()
        with suppress(OSError):
            os.write(self._descriptor, text + b"\n")
