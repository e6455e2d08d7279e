"""The context document: what is known about a customer, as JSON that is never larger than asked for.

What is most useful comes first: the first ``FIRST_INSIGHTS`` insights (verified ones first, then the newest), tickets
(open ones first, then the newest), activity counts (the most frequent first), recent events (the newest first), the
other insights. Entries are taken in this order up to the first that does not fit.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import orjson

from snowledger_queue import Position

from ._encoded_answers import Answer
from ._errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from snowledger_queue import Atom, ContextTicket, CustomerContext, RecentEvent

FIRST_INSIGHTS = 32
"""With their values short they take half of the default 16 KiB, so that a customer of whom much was learnt still gets
counts and recent events."""

VALUE_SHARE = 4
"""A value that alone takes more than a fourth of the answer is left out of its insight: it must not hide all that comes
after it."""

SMALLEST_INSIGHT = 128
"""An insight has 160 bytes of names and quotes alone; so at most one for each 128 bytes can be shown."""

_DIGITS = 13
"""Room for any number of entries, and for an age of 300 years."""

_SHORT_VALUE = 512
"""Insights with values up to this are kept encoded: they are told again and again, and hardly ever change."""

_KEPT_INSIGHTS = 2_048
"""Of a hundred customers with twenty each; 2 MB with their atoms, or 4 MB when all values are as long as that."""

_LISTS = ("insights", "tickets", "activity_counts", "recent_events")
_LEFT_OUT = ("insights", "insight_values", "tickets", "activity_counts", "recent_events")


class _Told(NamedTuple):
    """That a document has all insights, before anything else."""

    version: int
    """See ``CustomerContext.insights_version``."""
    frame: int
    """Bytes of the frame with which they had room."""
    size: int
    """Bytes of their entries."""
    without_value: int


class Document(NamedTuple):
    """An encoded context, of which only the age is still to be told."""

    head: Answer
    """Up to and with ``"age_ms":``."""
    left_out: Answer
    """What follows ``"stale":…,`` up to the lists."""
    insights: Answer
    rest: Answer
    """The other lists."""
    told: _Told | None
    """With which the next document, for as many bytes, may have these insights too."""

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return sum(map(len, (*self.head, *self.left_out, *self.insights, *self.rest)))

    def answer(self, age_ms: int | None, *, stale: bool) -> Answer:
        """The whole document."""
        age = b"null" if age_ms is None else b"%d" % min(age_ms, 10**_DIGITS - 1)
        old = b"true" if stale else b"false"
        content, text = zip(self.left_out, self.insights, self.rest, strict=True)
        return Answer(
            b'%b%b,"stale":%b,%b%b%b' % (self.head.content, age, old, *content),
            b'"%b%b,\\"stale\\":%b,%b%b%b"' % (self.head.text, age, old, *text),
        )


class _Entry(NamedTuple):
    """An entry of one of the lists, encoded."""

    list: str
    content: bytes
    atom: Atom | None = None
    whole: bool = True
    """Whether an insight has its value."""


def make_document(
    customer: str, context: CustomerContext, max_bytes: int, *, page: bool, before: Document | None = None
) -> Document:
    """Put the document together; ``page`` leaves all but the insights aside.

    ``before`` is an earlier one for the same arguments, whose encoded insights are taken when they are the same.

    Raises:
        InvalidArgumentError: not even the empty lists have room, or, for a page, not its first insight.
    """
    frame = _frame(customer, context.as_of)
    if page and context.insights:
        least = _least(frame, context)
        if least > max_bytes:
            raise _too_small(max_bytes, least, "the next insight")
    elif frame > max_bytes:
        raise _too_small(max_bytes, frame, "the empty context of this customer")
    told = None if before is None else before.told
    if told is not None and (told.version, told.frame) != (context.insights_version, frame):
        told = None
    lists, left_out, last = _filled(context, max_bytes, frame, page=page, told=told)
    insights = lists.pop("insights")
    if before is not None and told is not None:
        part = before.insights
    else:
        part = _part(b'"insights":[%b],' % b",".join(insights))
        if context.insights_version and not page and len(insights) == context.insight_count <= FIRST_INSIGHTS:
            size = sum(map(len, insights)) + max(0, len(insights) - 1)
            told = _Told(context.insights_version, frame, size, left_out["insight_values"])
    cursor = _cursor(last) if last is not None and left_out["insights"] else b"null"
    return _assemble(customer, context.as_of, part, lists, left_out, cursor)._replace(told=told)


def _filled(
    context: CustomerContext, max_bytes: int, frame: int, *, page: bool, told: _Told | None = None
) -> tuple[dict[str, list[bytes]], dict[str, int], Atom | None]:
    """The entries that have room, but for insights that are told already; what is left out, and the last insight."""
    lists: dict[str, list[bytes]] = {name: [] for name in _LISTS}
    left_out = {
        "insights": context.insight_count if told is None else 0,
        "insight_values": 0 if told is None else told.without_value,
        "tickets": context.ticket_count,
        "activity_counts": 0 if page else len(context.counts),
        "recent_events": 0 if page else len(context.recent),
    }
    last: Atom | None = None
    used = frame if told is None else frame + told.size
    for entry in _entries(context, max_bytes // VALUE_SHARE, page=page, insights=told is None):
        after = entry.atom or last
        missing = left_out["insights"] - (entry.atom is not None)
        room = max_bytes - used - bool(lists[entry.list])
        if after is not None and missing and len(entry.content) + _longest_cursor(after) > room:
            # What is used must leave room for the cursor with which the rest is read.
            room -= len(_cursor(after)) - len(b"null")
        if page and last is None and entry.atom is not None and len(entry.content) > room:
            entry = _insight(entry.atom, -1)  # noqa: PLW2901 - a page has its first insight, if need be without value
        if len(entry.content) > room:
            break
        lists[entry.list].append(entry.content)
        left_out[entry.list] -= 1
        left_out["insight_values"] += not entry.whole
        used += len(entry.content) + (len(lists[entry.list]) > 1)
        last = after
    return lists, left_out, last


def _entries(context: CustomerContext, limit: int, *, page: bool, insights: bool) -> Iterator[_Entry]:
    """All entries, the most useful first; a value of more than ``limit`` bytes is left out."""
    if insights:
        for atom in context.insights[:FIRST_INSIGHTS]:
            yield _insight(atom, limit)
    for ticket in context.tickets:
        yield _Entry("tickets", _ticket(ticket))
    if not page:
        for count in context.counts:
            yield _Entry("activity_counts", orjson.dumps(count._asdict()))
        for event in context.recent:
            yield _Entry("recent_events", _event(event))
    for atom in context.insights[FIRST_INSIGHTS:]:
        yield _insight(atom, limit)


def _frame(customer: str, as_of: str | None) -> int:
    """Bytes of everything but the entries and the cursor, at most."""
    return _EMPTY + len(orjson.dumps(customer)) - len(b'""') + len(orjson.dumps(as_of)) - len(b"null")


def _least(frame: int, context: CustomerContext) -> int:
    """Bytes of a page that shows the first insight, for one that shows none would be asked for again for ever."""
    first = context.insights[0]
    cursor = len(_cursor(first)) - len(b"null") if context.insight_count > 1 else 0
    forms = (_insight(first, limit) for limit in (-1, len(first.value)))
    return frame + min(len(form.content) for form in forms) + cursor


def _assemble(
    customer: str,
    as_of: str | None,
    insights: Answer,
    lists: Mapping[str, list[bytes]],
    left_out: Mapping[str, int],
    cursor: bytes,
) -> Document:
    truncated = b"true" if any(left_out.values()) else b"false"
    body = b",".join(b'"%b":[%b]' % (name.encode(), b",".join(entries)) for name, entries in lists.items())
    return Document(
        _part(b'{"customer":%b,"as_of":%b,"age_ms":' % (orjson.dumps(customer), orjson.dumps(as_of))),
        _part(b'"truncated":%b,"left_out":%b,"next_cursor":%b,' % (truncated, orjson.dumps(left_out), cursor)),
        insights,
        _part(body + b"}"),
        told=None,
    )


def _part(content: bytes) -> Answer:
    """A part of the document, and of the string that has the document in it."""
    return Answer(content, orjson.dumps(content.decode())[1:-1])


_EMPTY = len(
    _assemble(
        "",
        None,
        _part(b'"insights":[],'),
        {name: [] for name in _LISTS[1:]},
        dict.fromkeys(_LEFT_OUT, 10**_DIGITS - 1),
        b"null",
    )
    .answer(10**_DIGITS - 1, stale=False)
    .content
)
"""Bytes of a context of nobody, with the longest numbers."""


def read_cursor(cursor: object) -> Position:
    """The place that a ``next_cursor`` stands for.

    Raises:
        InvalidArgumentError: it is not one.
    """
    try:
        place = orjson.loads(base64.b64decode(cursor if isinstance(cursor, str) else b"", b"-_", validate=True))
    except (ValueError, binascii.Error):
        place = None
    if isinstance(place, list) and [type(part) for part in place] == [bool, str, str]:
        return Position(*place)
    raise InvalidArgumentError("cursor", "not a cursor; take it from next_cursor of the page before")


def _cursor(atom: Atom) -> bytes:
    place = orjson.dumps((atom.verified, atom.recorded_at, atom.atom_id))
    return b'"%b"' % base64.urlsafe_b64encode(place)


def _longest_cursor(atom: Atom) -> int:
    """Bytes that its cursor has at most: six for a character in JSON, and four for three of those in base64."""
    return 8 * (len(atom.recorded_at) + len(atom.atom_id)) + 64


def _insight(atom: Atom, limit: int) -> _Entry:
    return (_encoded if len(atom.value) > _SHORT_VALUE else _kept)(atom, limit)


def _encoded(atom: Atom, limit: int) -> _Entry:
    if len(atom.value) <= limit:
        return _Entry("insights", _members(atom, b'"value":%b' % atom.value), atom)
    return _Entry("insights", _members(atom, b'"value_bytes":%d' % len(atom.value)), atom, whole=False)


_kept = lru_cache(_KEPT_INSIGHTS)(_encoded)


def _members(atom: Atom, value: bytes) -> bytes:
    rest = {
        "query_hash": atom.query_hash,
        "verified": atom.verified,
        "recorded_at": atom.recorded_at,
        "valid_from": atom.valid_from,
        "valid_to": atom.valid_to,
        "insight_id": atom.atom_id,
    }
    names = orjson.dumps({"subject": atom.subject, "metric": atom.metric})
    return b"%b,%b,%b" % (names[:-1], value, orjson.dumps(rest)[1:])


def _ticket(ticket: ContextTicket) -> bytes:
    members: dict[str, object] = ticket._asdict()
    if ticket.row_count is None:
        del members["row_count"]
    return orjson.dumps(members)


def _event(event: RecentEvent) -> bytes:
    members: dict[str, object] = {"ts": event.ts, "event_id": event.event_id, "activity": event.activity}
    if event.link is not None:
        members["link"] = event.link
    if event.features is not None:
        members["feature_json"] = orjson.Fragment(event.features)
    return orjson.dumps(members)


def _too_small(max_bytes: int, least: int, what: str) -> InvalidArgumentError:
    return InvalidArgumentError("max_bytes", f"{max_bytes} is too small for {what}; the least is {least}")
