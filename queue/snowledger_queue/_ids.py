"""Ids that are not a UUIDv7: derived from something, or short tags."""

from __future__ import annotations

import hashlib
import secrets


def derived_id(purpose: str, *parts: str) -> str:
    """A deterministic activity_id: the same parts give the same id, 122 bits of SHA-256 as a UUIDv8 (RFC 9562)."""
    digest = hashlib.sha256(b"snowledger 1")
    for part in (purpose, *parts):
        encoded = part.encode()
        digest.update(b"%d:%b" % (len(encoded), encoded))
    number = int.from_bytes(digest.digest()[:16])
    number = number & ~(0xF << 76) | (8 << 76)
    number = number & ~(3 << 62) | (2 << 62)
    return f"{number:032x}"


def new_query_tag() -> str:
    """A tag that marks one call in logs, events and the warehouse's query history: ``cdesk_`` and 8 hex digits."""
    return f"cdesk_{secrets.token_hex(4)}"
