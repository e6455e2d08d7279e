"""Bearer tokens: who may call the HTTP server, and as whom.

``tokens.json`` has of each token what its bearer may do and the SHA-256 of its secret. A secret has 256 random bits, so
a plain hash is right: there is nothing to guess. The text of a token is ``slt_<id>_<secret>``; it is shown once and
stored nowhere.

The file is private, and replaced as a whole: ``add_token`` and ``revoke_token`` do that, a server reads it again when
its stat has changed. While it is there, tokens are needed, also when none is left in it; while something is wrong with
it, nobody is let in.
"""

from ._edit import add_token, revoke_token
from ._file import read_tokens
from ._protected import require_protection
from ._token import Grant, Scope, Token
from ._tokens import Tokens

__all__ = [
    "Grant",
    "Scope",
    "Token",
    "Tokens",
    "add_token",
    "read_tokens",
    "require_protection",
    "revoke_token",
]
