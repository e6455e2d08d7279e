"""The last guard of logs and error messages: what looks like a credential is cut out of them.

Whoever makes a message must not put a secret into it; this is for what libraries say, and for mistakes.
"""

from __future__ import annotations

import re

MAX_CHARS = 64 * 1024
"""Of a text; no traceback is longer. Whoever can have more of it logged shall not hold up the process."""

_SECRETS = re.compile(
    r"(?P<name>(?i:\b\w*(?:passphrase|passcode|password|passwd|pwd|token|secret(?:_?access)?(?:_?key)?"
    r"|(?:api|access|private)_?key|signature|\bsig)(?:\\*[\"'])?\s{0,3}[=:]\s{0,3}))"
    r"b?(?P<quote>\\*[\"'])?(?(quote)(?:(?!(?P=quote))(?:\\.|.)|(?P=quote){2})*|[^\s\"']+)"
    r"|(?P<header>(?i:\b(?:authorization|cookie)[\"']?\s?[=:]\s?[\"']?))[^\"'\r\n]+"
    r"|(?i:\b(?:bearer|basic|negotiate|oauth)\s+)[\w.~+/=-]{16,}"
    r"|\bslt_\w+"
    r"|(?<![\w-])eyJ[\w-]+\.[\w.-]+"
    r"|(?<=://)[^/\s]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
"""What stands after a secret's name and = or :, in quotes of any kind up to the same one; the values of Authorization
headers and cookies; our own tokens; JWTs; the user and password of an address; private keys."""


def redacted(text: str) -> str:
    """The text without what looks like a credential, and without what goes beyond ``MAX_CHARS``."""
    if len(text) > MAX_CHARS:
        text = f"{text[:MAX_CHARS]}… ({len(text) - MAX_CHARS} characters more)"
    return _SECRETS.sub(lambda found: f"{found['name'] or found['header'] or ''}{found['quote'] or ''}…", text)
