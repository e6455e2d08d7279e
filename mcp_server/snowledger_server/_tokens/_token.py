"""One token: what its bearer may do, its text, and its record in the file."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from snowledger_queue import OPERATIONAL_CUSTOMER, InvalidEventError, check_customer, timestamp
from snowledger_server._errors import TokenError
from snowledger_server._identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope: TypeAlias = Literal["mcp", "metrics"]
"""What a token opens: the tools and resources, or ``/metrics``."""

SECRET_BYTES = 32
ID_BYTES = 6
"""An id is no secret: 48 bits make two of them unlikely to be the same."""

_TEXT = re.compile(r"slt_([0-9a-f]{12})_([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_ID = re.compile(r"[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token lets its bearer do."""

    token_id: str
    """No secret; for logs."""
    scope: Scope
    identity: Identity | None
    """Whom its calls act for; None with the scope ``metrics``, which acts for nobody."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the file has it."""

    id: str
    name: str
    sha256: str = field(repr=False)
    scope: Scope
    customer: str | None
    """None with the scope ``metrics``."""
    allowed: tuple[str, ...]
    """Further customers that its bearer may read and write, sorted."""
    created: str
    """When, in the form of ``ts``."""
    expires: str | None
    """From then on it is worth nothing; None: never."""

    def __post_init__(self) -> None:
        """Raise ``TokenError`` for what a token cannot be."""
        if not _NAME.fullmatch(self.name):
            raise TokenError("name", f"{self.name!a} is not accepted; accepted: 1 to 64 letters, digits and . _ @ -")
        if not _ID.fullmatch(self.id) or not _SHA256.fullmatch(self.sha256):
            raise TokenError("id", "the id or the hash has not the form that was written")
        if self.scope not in get_args(Scope):
            raise TokenError("scope", f"{self.scope!a} is not accepted; accepted: {', '.join(get_args(Scope))}")
        if self.scope == "metrics" and (self.customer is not None or self.allowed):
            raise TokenError("customer", "a token for metrics acts for no customer; leave it out")
        if self.scope == "mcp" and self.customer is None:
            raise TokenError("customer", "missing; a token for mcp acts for one")
        for name, customer in (("customer", self.customer), *(("allowed", one) for one in self.allowed)):
            _check_customer(name, customer)
        for moment in (self.created, self.expires):
            _check_time(moment)

    @property
    def grant(self) -> Grant:
        """What its bearer may do."""
        identity = None if self.customer is None else Identity(self.customer, frozenset(self.allowed))
        return Grant(self.id, self.scope, identity)

    def expired(self, now: datetime) -> bool:
        """Whether it is worth nothing any more."""
        return self.expires is not None and self.expires <= timestamp(now)


def new_secret(token_id: str) -> tuple[str, str]:
    """The text of a new token and the hash of its secret."""
    secret = secrets.token_hex(SECRET_BYTES)
    return f"slt_{token_id}_{secret}", digest(secret)


def parts(text: str) -> tuple[str, str] | None:
    """The id and the secret in a token's text; None when it has not the form of one."""
    found = _TEXT.fullmatch(text)
    return None if found is None else (found[1], found[2])


def digest(secret: str) -> str:
    """The SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def decoded(record: Mapping[str, object]) -> Token:
    """The token of a record in the file.

    Raises:
        TokenError: it is not what was written.
    """
    allowed = record.get("allowed")
    texts = [record.get(name) for name in ("id", "name", "sha256", "scope", "created")]
    optional = [record.get(name) for name in ("customer", "expires")]
    if (
        record.keys() != set(Token.__dataclass_fields__)
        or not isinstance(allowed, list)
        or not all(isinstance(value, str) for value in (*texts, *allowed))
        or not all(value is None or isinstance(value, str) for value in optional)
    ):
        raise TokenError("tokens", "a record has not the members that were written")
    return Token(**{**record, "allowed": tuple(allowed)})  # type: ignore[arg-type]  # checked above


def _check_customer(name: str, customer: str | None) -> None:
    if customer is None:
        return
    try:
        check_customer(customer, name)
    except InvalidEventError as error:
        raise TokenError(name, error.problem) from None
    if customer == OPERATIONAL_CUSTOMER:
        raise TokenError(name, f"{customer} is snowledger's own; choose another")


def _check_time(moment: str | None) -> None:
    try:
        if moment is None or timestamp(datetime.fromisoformat(moment).astimezone(UTC)) == moment:
            return
    except (ValueError, OverflowError):
        pass
    raise TokenError("expires", "a time has not the form that was written")
