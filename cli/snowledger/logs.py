"""Logging: one line for each record, on stderr or in a small rotating file, for people or as JSON.

Times are UTC. A record that was made for a call, a query or a batch carries its tag: the ``_query_tag`` of the event,
and the ``QUERY_TAG`` of the statement in Snowflake. What looks like a credential is left out, whoever logged it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from .errors import StartError
from .redaction import redacted
from .terminal import printable

MAX_FILE_BYTES = 1024 * 1024
"""With one older file beside it: days of a quiet desktop uploader, and never worth cleaning up."""

OWN = ("snowledger", "snowledger_ddl", "snowledger_queue", "snowledger_server", "snowledger_uploader")
"""What ``debug`` is for: at that level libraries may log what clients sent."""


class _Formatter(logging.Formatter):
    """What both forms of a record have in common."""

    def __init__(self, tag: Callable[[], str | None]) -> None:
        """``tag`` tells for whom the calling thread works now."""
        super().__init__("%(asctime)s %(levelname)s %(tag)s %(name)s: %(message)s")
        self._tag = tag

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """In the form of an event's ``ts``."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class _Line(_Formatter):
    """For people. A record stays on one line, whatever was logged: no text can forge another record."""

    def format(self, record: logging.LogRecord) -> str:
        record.tag = self._tag() or "-"
        return printable(redacted(super().format(record)))


class _Json(_Formatter):
    """For programs: a JSON object of printable ASCII on each line."""

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "ts": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "query_tag": self._tag(),
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            members["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(members)


def configure(level: str, form: str, file: Path | None = None) -> None:
    """Send the records of ``level`` and above to stderr, or to ``file``, as ``console`` or ``json``.

    May be called again.

    Raises:
        StartError: the file cannot be written.
    """
    from snowledger_queue import correlation_id

    try:
        handler = (
            logging.StreamHandler()
            if file is None
            else RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
        )
    except OSError as error:
        raise StartError(f"cannot write the log file {file}: {error.strerror}") from None
    handler.setFormatter((_Json if form == "json" else _Line)(correlation_id))
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(number)


def tell(message: str) -> bool:
    """Whether the message went to stderr as a record: where that is read by a program, every line of it is one."""
    structured = any(
        isinstance(handler.formatter, _Json) and type(handler) is logging.StreamHandler
        for handler in logging.getLogger().handlers
    )
    if structured:
        logging.getLogger("snowledger").critical("%s", message)
    return structured
