"""What a template's tree needs to be said in Snowflake's words, and its text with ``?`` for each bound value.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from sqlglot import Token, TokenType, exp, parse_one, tokenize

from ._template import Template
from ._template_check import FlawError
from ._template_ctes import is_plain

_RESERVED = re.compile(
    r"ACCOUNT|CONNECT|CONNECTION|CURRENT|DATABASE|DELETE|FOLLOWING|GSCLUSTER|INCREMENT|INSERT|ISSUE|MINUS|OF"
    r"|ORGANIZATION|REGEXP|REVOKE|RLIKE|ROWS?|SAMPLE|SCHEMA|SET|START|TRIGGER|UPDATE|VALUES|VIEW|WHENEVER",
    re.IGNORECASE,
)
"""Words that Snowflake keeps for itself and DuckDB takes as names."""

_OTHERWISE = (exp.RegexpExtract, exp.RegexpExtractAll, exp.RegexpFullMatch, exp.RegexpILike, exp.RegexpReplace)
"""Functions that Snowflake does not have, or that answer otherwise there: where nothing matches it extracts NULL and
not an empty text, and it replaces every match and not the first."""

_DAYS_OF_WEEK = ("DOW", "DAYOFWEEK", "WEEKDAY")
"""DuckDB's names for the day of the week as a part of a date, from Sunday = 0."""

_PARTS = {
    **{
        part: part
        for one in ("YEAR", "QUARTER", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
        for part in (one, f"{one}S")
    },
    **{part: part for part in ("DAYOFMONTH", "DAYOFYEAR", "DOY", "WEEK", "WEEKOFYEAR")},
    "ISODOW": "DAYOFWEEKISO",
    "ISOYEAR": "YEAROFWEEKISO",
}
"""Other parts of a date that both have, and what Snowflake calls them."""

_MILLISECONDS = 3
"""The scale that tells sqlglot's UnixToTime of epoch_ms, which is read as if it were always given a number."""


def translate(tree: exp.Query) -> None:
    """Say in other words what sqlglot would lose or say badly on the way from DuckDB. Raises ``FlawError``."""
    for cast in tree.find_all(exp.TryCast):
        cast.set("requires_string", value=True)  # it would become a plain CAST, which fails
    for interval in list(tree.find_all(exp.Interval)):
        if not isinstance(interval.this, exp.Literal):
            _add(interval)
    for member in list(tree.find_all(exp.JSONExtractScalar)):
        # It would become a function that takes JSON as text, and so writes and parses the whole value each time.
        found = exp.Anonymous(this="GET_PATH", expressions=[member.this, member.expression])
        member.replace(exp.cast(found, exp.DType.VARCHAR))
    for part in list(tree.find_all(exp.DayOfWeek, exp.Extract, exp.TimeToUnix)):
        _extract(part)
    for made in tree.find_all(exp.UnixToTime):
        if made.text("scale") == str(_MILLISECONDS):
            reason = "epoch_ms cannot be translated for Snowflake, for it goes both ways; write epoch(…) * 1000 for the"
            raise FlawError(0, f"{reason} number, make_timestamp(1000 * …) for the time")
    for match in list(tree.find_all(exp.RegexpLike, *_OTHERWISE)):
        _find(match)
    _fold_names(tree)


def adapt(tree: exp.Query, template: Template) -> None:
    """What holds for a template's own Snowflake text too: lists as arrays, and LIMIT. Raises ``FlawError``."""
    for distinct in tree.find_all(exp.Distinct):
        if distinct.args.get("on"):
            # It would become a subquery that is limited before it picks, and loses the order.
            reason = "Snowflake has no DISTINCT ON; write QUALIFY ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) = 1"
            raise FlawError(0, reason)
    lists = {one.name for one in template.parameters if one.type == "list"} | {"customers"}
    for placeholder in list(tree.find_all(exp.Placeholder)):
        if placeholder.name in lists:
            # One placeholder for each item, so that items keep their types: JSON has no dates.
            placeholder.replace(exp.Anonymous(this="ARRAY_CONSTRUCT", expressions=[placeholder.copy()]))
    for limit in tree.find_all(exp.Limit, exp.Offset, exp.Fetch):
        if limit.find(exp.Placeholder):
            reason = "Snowflake takes no parameter as LIMIT or OFFSET; number the rows in NAME.snowflake.sql"
            raise FlawError(0, reason)


def positional(text: str, bound: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """An executable Snowflake text with ``?`` for each placeholder, and the values in their order.

    A list takes as many as it has items. ``bound`` are ``bound_parameters`` and ``reserved_parameters``.
    """
    pieces: list[str] = []
    values: list[Any] = []
    end = 0
    for colon, name in _named(text):
        value = bound[name.text]
        items = value if isinstance(value, list) else [value]
        pieces += [text[end : colon.start], ", ".join("?" * len(items))]
        values += items
        end = name.end + 1
    return "".join([*pieces, text[end:]]), values


def check_names(text: str, names: Collection[str]) -> None:
    """See to it that ``positional`` finds every placeholder, and takes nothing else for one.

    Raises:
        FlawError: it does not.
        SqlglotError: it is no text of Snowflake's.
    """
    found = [name.text for _, name in _named(text)]
    kept = [node.name for node in parse_one(text, read="snowflake").find_all(exp.Placeholder)]
    if sorted(found) != sorted(kept):
        raise FlawError(0, "a member of a value, as in value.name, cannot be translated for Snowflake")
    if set(kept) != set(names):
        lost = ", ".join(f"${name}" for name in sorted(set(names).symmetric_difference(kept)))
        raise FlawError(0, f"cannot be translated for Snowflake: {lost} would be lost")


def _named(text: str) -> Iterator[tuple[Token, Token]]:
    """The colon and the name of each placeholder. A path into JSON is written as GET_PATH, and so has no colon."""
    for colon, name in pairwise(tokenize(text, read="snowflake")):
        if colon.token_type == TokenType.COLON and colon.end + 1 == name.start and name.text[:1].isalpha():
            yield colon, name


def _add(interval: exp.Interval) -> None:
    """Put a function in the place of the sum: an interval of anything but a literal would be written without value."""
    total = interval.parent
    if not isinstance(total, exp.Add | exp.Sub) or total.expression is not interval:
        raise FlawError(0, "an INTERVAL that is no literal can only be added to a time or subtracted from it")
    kind = exp.TimestampAdd if isinstance(total, exp.Add) else exp.TimestampSub
    total.replace(kind(this=total.this, expression=interval.this, unit=interval.args["unit"]))


def _extract(part: exp.Func) -> None:
    """A part of a date, in words that mean the same there."""
    name = part.name.upper()
    if isinstance(part, exp.TimeToUnix) or (isinstance(part, exp.Extract) and name == "EPOCH"):
        _count_seconds(part)
    elif isinstance(part, exp.DayOfWeek) or name in _DAYS_OF_WEEK:
        # The one day of the week that does not depend on when the session's week begins.
        day = exp.DayOfWeekIso(this=part.args.get("expression") or part.this)
        part.replace(exp.paren(exp.Mod(this=day, expression=exp.Literal.number(7)), copy=False))
    elif name in _PARTS:
        part.set("this", exp.var(_PARTS[name]))
    else:
        accepted = ", ".join(sorted({*_PARTS, "EPOCH", "DOW"})).lower()
        raise FlawError(0, f"EXTRACT({name.lower()} …) cannot be translated for Snowflake; accepted: {accepted}")


def _count_seconds(part: exp.Func) -> None:
    """Seconds with their fraction, of a time since 1970 or between two times: Snowflake's epoch has whole ones."""
    counted = (part.args.get("expression") or part.this).unnest()
    since: exp.Expr = exp.cast(exp.Literal.string("1970-01-01"), exp.DType.TIMESTAMP)
    if isinstance(counted, exp.Sub) and not isinstance(counted.expression, exp.Interval):
        counted, since = counted.this, counted.expression
    span = exp.DateDiff(this=counted, expression=since, unit=exp.var("MICROSECOND"))
    seconds = exp.Div(this=exp.cast(span, exp.DType.DOUBLE), expression=exp.Literal.number(1_000_000))
    part.replace(exp.paren(seconds, copy=False))


def _find(match: exp.Expr) -> None:
    """Whether a text has a match, for sqlglot would write REGEXP_LIKE, to which the whole text must match."""
    if isinstance(match, _OTHERWISE) or match.args.get("flag"):
        reason = "of regular expressions only ~ and regexp_matches(text, pattern) can be translated for Snowflake"
        raise FlawError(0, f"{reason}; put the Snowflake text into NAME.snowflake.sql")
    place = exp.Anonymous(this="REGEXP_INSTR", expressions=[match.this, match.expression])
    match.replace(exp.paren(exp.GT(this=place, expression=exp.Literal.number(0)), copy=False))


def _fold_names(tree: exp.Query) -> None:
    """Snowflake folds only names without quotation marks, to upper case; to DuckDB case makes no difference."""
    given = {name.name for named in tree.find_all(exp.Alias, exp.TableAlias) for name in _given_by(named)}
    for name in tree.find_all(exp.Identifier):
        if _needs_upper_case(name, given):
            name.replace(exp.to_identifier(name.name.upper(), quoted=True))


def _given_by(named: exp.Expr) -> list[exp.Identifier]:
    """The names that the template gives there."""
    names = [named.args.get("alias"), named.args.get("this"), *(named.args.get("columns") or ())]
    return [name for name in names if isinstance(name, exp.Identifier)]


def _needs_upper_case(name: exp.Identifier, given: Collection[str]) -> bool:
    if isinstance(name.parent, exp.PropertyEQ):
        return False  # a key of an object, which becomes a text
    if name.quoted:
        return is_plain(name.name) and (name.name == name.name.lower() or name.name not in given)
    return _RESERVED.fullmatch(name.name) is not None
