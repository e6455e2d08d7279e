"""What SHOW tells: comments of all objects, and the objects of which nothing but name and comment is kept here."""

import re

import pyarrow as pa
from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.options import NAME, qualified
from tests.fake_snowflake.server.results import Outcome

_KIND = r"(?P<kind>ROLE|WAREHOUSE|USER|DATABASE|SCHEMA|STAGE|FILE\s+FORMAT|(?:DYNAMIC\s+)?TABLE|VIEW)"
_TEXT = r"'(?P<text>(?:[^']|'')*)'"
_COMMENT = re.compile(
    rf"(?:COMMENT\s+(?:IF\s+EXISTS\s+)?ON\s+{_KIND}\s+(?P<name>{NAME})\s+IS\s+{_TEXT}"
    rf"|ALTER\s+{_KIND.replace('<kind>', '<altered>')}\s+(?P<object>{NAME})\s+SET\s+COMMENT\s*="
    rf"\s*{_TEXT.replace('<text>', '<set>')})",
    re.IGNORECASE,
)
_MADE = re.compile(
    rf"(?P<what>CREATE(?P<replace>\s+OR\s+REPLACE)?|DROP)\s+{_KIND}\s+(?:IF\s+(?P<unless>NOT\s+)?EXISTS\s+)?(?P<name>{NAME})",
    re.IGNORECASE,
)
_OF_ACCOUNT = {"ROLE", "WAREHOUSE", "USER"}
SHOWN = re.compile(r"SHOW\s+(?P<kind>ROLE|WAREHOUSE|USER)S(?:\s+LIKE\s+'(?P<like>[^']*)')?", re.IGNORECASE)

Key = tuple[str, ...]

_COMMENT_COLUMN = ("comment", "VARCHAR")


class Catalog:
    """Comments by the object's full name; those of the account begin with their kind."""

    def __init__(self) -> None:
        self._comments: dict[Key, str] = {}

    def note(self, sql: str, database: str | None, schema: str | None) -> None:
        """Remember what a statement, which succeeded, says of an object."""
        if match := _COMMENT.match(sql):
            key = _key(match["kind"] or match["altered"], match["name"] or match["object"], database, schema)
            self._comments[key] = (match["text"] or match["set"]).replace("''", "'")
        elif match := _MADE.match(sql):
            key = _key(match["kind"], match["name"], database, schema)
            if match["replace"] or match["what"].upper() == "DROP":
                self._comments.pop(key, None)
            if match["what"].upper() != "DROP":
                self._comments.setdefault(key, "")

    def of_account(self, match: re.Match[str]) -> Outcome:
        """Answer what `SHOWN` matches."""
        kind = match["kind"].upper()
        found = [(name[1], comment) for name, comment in self._comments.items() if name[0] == kind]
        like = re.escape(match["like"] or "%").replace("%", ".*").replace("_", ".")
        rows = [row for row in found if re.fullmatch(like, row[0], re.IGNORECASE)]
        return Outcome.of_rows(results.SHOW, ["name", "comment"], rows)

    def with_comments(self, outcome: Outcome) -> Outcome:
        """What fakesnow answers to another SHOW, with the comments that it does not keep."""
        if "name" in (name for name, _ in outcome.columns):
            comments = [self._comments.get(_full_name(row), "") for row in outcome.table.to_pylist()]
            outcome.columns = [*((name, kind) for name, kind in outcome.columns if name != "comment"), _COMMENT_COLUMN]
            kept = outcome.table.select([name for name, _ in outcome.columns[:-1]])
            outcome.table = kept.append_column("comment", pa.array(comments, pa.string()))
        return outcome


def _key(kind: str, name: str, database: str | None, schema: str | None) -> Key:
    kind = kind.upper()
    parts = qualified(name, database or "", schema or "")
    if kind in _OF_ACCOUNT:
        return (kind, parts[-1])
    return parts[-1:] if kind == "DATABASE" else parts[-2:] if kind == "SCHEMA" else parts


def _full_name(row: dict[str, str | None]) -> Key:
    return tuple(part for part in (row.get("database_name"), row.get("schema_name"), row["name"]) if part)
