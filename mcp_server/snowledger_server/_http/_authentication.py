"""Who is let in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ._caller import Client
from ._hosts import forwarded
from ._refusal import Refusal

if TYPE_CHECKING:
    from snowledger_server._identity import Identity
    from snowledger_server._tokens import Tokens

STRANGER = Refusal(401, "A valid bearer token is needed.", ((b"www-authenticate", b"Bearer"),))
"""The same whether there is no token, a wrong one, or one that has expired or is for something else."""

FORWARDED = Refusal(
    403, "What comes through a proxy needs a token, and there is none; its operator can add one: snowledger token add."
)

Authenticate: TypeAlias = Callable[[Mapping[bytes, bytes]], Client | Refusal]
"""Who makes a request with these headers, or why nobody may make it."""


def authentication(tokens: Tokens, anybody: Identity) -> Authenticate:
    """Let in who has a token; while none is needed, everybody on this machine is ``anybody``."""
    local = Client(anybody, "")

    def authenticate(headers: Mapping[bytes, bytes]) -> Client | Refusal:
        grant = tokens.authenticate(bearer(headers))
        if not tokens.needed:
            return FORWARDED if forwarded(headers) else local
        return STRANGER if grant is None or grant.identity is None else Client(grant.identity, grant.token_id)

    return authenticate


def metrics_guard(tokens: Tokens) -> Callable[[Mapping[bytes, bytes]], Refusal | None]:
    """Refuse who has no token of the scope ``metrics``, where tokens are needed."""

    def refusal(headers: Mapping[bytes, bytes]) -> Refusal | None:
        grant = tokens.authenticate(bearer(headers))
        if not tokens.needed:
            return FORWARDED if forwarded(headers) else None
        return None if grant is not None and grant.scope == "metrics" else STRANGER

    return refusal


def bearer(headers: Mapping[bytes, bytes]) -> str:
    """The token of a request; nothing when it has none (RFC 6750, section 2.1)."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
