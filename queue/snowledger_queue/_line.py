"""The line format: one JSON object, a CRC of all that precedes it as the last member, one newline."""

from __future__ import annotations

from zlib import crc32

CRC_SUFFIX_BYTES = len(b',"_crc":"01234567"}')
"""The checksum member has a fixed width, so a reader finds it by counting from the end."""

ID_START = len(b'{"activity_id":"')
ID_END = ID_START + 32
"""``activity_id`` is the first member and 32 hex digits long, so SQL can cut it out without parsing."""


def with_checksum(body: bytes) -> bytes:
    """Turn an encoded JSON object (``{...}``, no newline) into a line with its checksum and newline."""
    open_body = body[:-1]
    return b'%b,"_crc":"%08x"}\n' % (open_body, crc32(open_body))


def damage(line: bytes) -> str | None:
    """Why a line (without its newline) is not what was written; None when it is intact."""
    # The whole suffix, not the digits alone: it is not covered by the checksum itself.
    suffix = b',"_crc":"%08x"}' % crc32(line[:-CRC_SUFFIX_BYTES])
    if line.endswith(suffix) and line.startswith(b'"', ID_END):
        return None
    if line.endswith(suffix):
        return "activity_id is not its first member: the line was not written by snowledger"
    if line[-CRC_SUFFIX_BYTES:-10] != b',"_crc":"':
        return "no checksum at the end of the line: it is torn or was not written by snowledger"
    return "the checksum does not match: the bytes changed after they were written"
