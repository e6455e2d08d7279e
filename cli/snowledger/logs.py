"""Logging: one line for each record, on stderr or in a small rotating file."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from .errors import StartError
from .terminal import printable

MAX_FILE_BYTES = 1024 * 1024
"""With one older file beside it: days of a quiet desktop uploader, and never worth cleaning up."""


class _OneLine(logging.Formatter):
    """Keeps a record on one line, whatever was logged: no text can forge another record."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def configure(level: str, file: Path | None = None) -> None:
    """Send the records of ``level`` and above to stderr, or to ``file``. May be called again.

    Raises:
        StartError: the file cannot be written.
    """
    try:
        handler = (
            logging.StreamHandler()
            if file is None
            else RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
        )
    except OSError as error:
        raise StartError(f"cannot write the log file {file}: {error.strerror}") from None
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
