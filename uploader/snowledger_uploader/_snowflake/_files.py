"""A batch as one gzip file, the size that Snowflake loads best however small its segments are."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from snowledger_uploader._warehouse import Batch

LEVEL = 1
"""Of gzip. Events repeat so much that it makes a tenth of them, at 1.1 µs an event; level 6 makes a twelfth, at 3.1."""

CHUNK = 1024 * 1024
"""Bytes read at a time."""

_GZIP = 16 + zlib.MAX_WBITS
"""What zlib takes for the format of gzip, without file name and time: the same events are the same bytes."""


def compressed(batch: Batch, folder: Path) -> Path:
    """Write the batch's files one after the other into one file that is named by their content. Blocking.

    Whoever asks deletes it.

    Raises:
        OSError: it cannot be written, or a segment not be read; nothing is left of it.
    """
    path = folder / f"{batch.batch_id}.ndjson.gz"
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    try:
        with path.open("wb") as target:
            for file in batch.files:
                with file.open("rb") as source:
                    while chunk := source.read(CHUNK):
                        target.write(packer.compress(chunk))
            target.write(packer.flush())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path
