"""What of each customer is in the queue, by segment: counts, the newest events, insight atoms."""

from __future__ import annotations

import sys
from bisect import insort
from operator import itemgetter
from typing import TYPE_CHECKING

from ._context_reader import Queued
from ._recent import RECENT_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._recall import Atom, Contribution, RecentEvent

_ORDER = itemgetter(0, 1)
"""Of recent events: ``ts``, then id."""


class _Part:
    """What a segment, or all of them together, have of a customer."""

    __slots__ = ("atoms", "hours", "recent")

    def __init__(self) -> None:
        self.atoms: dict[str, Atom] = {}
        self.hours: dict[tuple[str, str], int] = {}
        self.recent: list[RecentEvent] = []

    def count(self, hour: str, activity: str, events: int = 1) -> None:
        key = (hour, activity)
        if key in self.hours:
            self.hours[key] += events
        else:
            # Thousands of small segments have the same hours and activities.
            self.hours[sys.intern(hour), sys.intern(activity)] = events

    def remember(self, event: RecentEvent) -> None:
        """Keep the event if it is one of the newest; of several with one id the newest."""
        recent = self.recent
        order = _ORDER(event)
        if len(recent) == RECENT_EVENTS and order <= _ORDER(recent[0]):
            return
        for place, known in enumerate(recent):
            if known.event_id == event.event_id:
                if order <= _ORDER(known):
                    return
                del recent[place]
                break
        insort(recent, event, key=_ORDER)
        del recent[:-RECENT_EVENTS]

    def keep(self, atom: Atom) -> None:
        """Keep the atom; of several with one id the oldest, as a batch does."""
        known = self.atoms.get(atom.atom_id)
        if known is None or atom.recorded_at < known.recorded_at:
            self.atoms[atom.atom_id] = atom

    def add(self, found: Contribution, *, counts: bool) -> None:
        if counts:
            self.count(found.hour, found.activity)
        if found.event is not None:
            self.remember(found.event)
        if found.atom is not None:
            self.keep(found.atom)

    def merge(self, other: _Part) -> None:
        for (hour, activity), events in other.hours.items():
            self.count(hour, activity, events)
        for event in reversed(other.recent):  # the newest first: the others then often need no place
            self.remember(event)
        for atom in other.atoms.values():
            self.keep(atom)

    def as_queued(self) -> Queued:
        """A copy, for the part goes on."""
        return Queued(list(self.atoms.values()), dict(self.hours), self.recent[::-1])


def _merged(parts: Iterable[_Part]) -> _Part:
    merged = _Part()
    for part in parts:
        merged.merge(part)
    return merged


class _Customer:
    """A customer who has something in the queue."""

    __slots__ = ("name", "parts", "total", "version")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: dict[str, _Part] = {}
        """By the segment's stem."""
        self.total: _Part | None = None
        """All parts together, from the first question until something is dropped: at most some hundred customers are
        asked for, and thousands of segments must not be walked through for each answer."""
        self.version = 0


class QueuedContents:
    """Contributions of the queue's events, by customer and segment."""

    def __init__(self) -> None:
        self._customers: dict[str, _Customer] = {}
        self._segments: dict[str, list[_Customer]] = {}
        """Who has a part of a segment."""
        self._version = 0

    def add(self, stem: str, found: Contribution, *, counts: bool) -> str:
        """Add an event of the segment; return before which ``ts`` another one of the two would only be counted.

        One that counts elsewhere is only made known.
        """
        customer = self._customers.get(found.customer)
        if customer is None:
            customer = self._customers[found.customer] = _Customer(found.customer)
        part = customer.parts.get(stem)
        if part is None:
            part = customer.parts[stem] = _Part()
            self._segments.setdefault(stem, []).append(customer)
        part.add(found, counts=counts)
        if customer.total is not None:
            customer.total.add(found, counts=counts)
        self._touch(customer)
        return part.recent[0].ts if len(part.recent) == RECENT_EVENTS else ""

    def count(self, stem: str, customer: str, hour: str, activity: str, events: int) -> None:
        """Count further events of a customer who has some in the segment."""
        found = self._customers[customer]
        found.parts[stem].count(hour, activity, events)
        if found.total is not None:
            found.total.count(hour, activity, events)
        self._touch(found)

    def drop(self, stem: str) -> None:
        """Forget what the segment added."""
        for customer in self._segments.pop(stem, ()):
            del customer.parts[stem]
            customer.total = None
            if customer.parts:
                self._touch(customer)
            else:
                del self._customers[customer.name]

    def _touch(self, customer: _Customer) -> None:
        self._version += 1
        customer.version = self._version

    def version(self, customer: str) -> int:
        """0 while nothing of the customer is there, else a number that nobody had before."""
        found = self._customers.get(customer)
        return 0 if found is None else found.version

    def queued(self, customer: str, drained: frozenset[str]) -> Queued:
        """What is there of the customer, but for the segments of these stems."""
        found = self._customers.get(customer)
        if found is None:
            return Queued((), {}, ())
        if not found.parts.keys().isdisjoint(drained):
            return _merged(part for stem, part in found.parts.items() if stem not in drained).as_queued()
        if found.total is None:
            found.total = _merged(found.parts.values())
        return found.total.as_queued()
