"""What of each customer is in the queue: counts, the newest events, insight atoms.

An hour without a warehouse may leave thousands of segments, each with something of hundreds of customers. So a sealed
segment that was read to its end keeps by itself only what it counts, packed, and its atoms. Of the events in all those
segments a customer has the newest together: by the time one of them goes, ``state.db`` has it, and with it ten that are
newer than whatever was passed over here.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, insort
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from ._context_reader import Queued
from ._recent import RECENT_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._recall import Atom, Contribution, RecentEvent

_ORDER = itemgetter(0, 1)
"""Of recent events: ``ts``, then id."""

_Hour = tuple[str, str]
"""An hour and an activity."""

_NOTHING = "", ""
"""What a customer has in a segment where nothing counts."""


class _Part:
    """What a segment, or several together, have of a customer."""

    __slots__ = ("atoms", "hours", "recent")

    def __init__(self) -> None:
        self.atoms: dict[str, Atom] = {}
        self.hours: dict[_Hour, int] = {}
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


class _Customer:
    """A customer who has something in the queue."""

    __slots__ = ("atoms", "hours", "name", "number", "parts", "recent", "sealed", "version")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        """Nobody else's."""
        self.parts: dict[str, _Part] = {}
        """Of the segments that are still read, by stem."""
        self.sealed = 0
        """How many of the others have something of the customer; what follows is theirs."""
        self.hours: dict[_Hour, int] = {}
        self.recent: list[tuple[RecentEvent, str]] = []
        """The newest, the oldest of them first, each with its segment's stem."""
        self.atoms: dict[str, dict[str, Atom]] = {}
        """By stem and id."""
        self.version = 0

    def settle(self, stem: str) -> _Part:
        """The segment was read to its end; return its part."""
        part = self.parts.pop(stem)
        self.sealed += 1
        for key, events in part.hours.items():
            self.hours[key] = self.hours.get(key, 0) + events
        if part.atoms:
            self.atoms[stem] = part.atoms
        together = _Part()
        stems = {event.event_id: of for event, of in self.recent}
        for event, _ in self.recent:
            together.remember(event)
        for event in part.recent:
            together.remember(event)
            if event in together.recent:
                stems[event.event_id] = stem
        self.recent = [(event, stems[event.event_id]) for event in together.recent]
        return part

    def forget(self, stem: str) -> None:
        """A sealed segment is gone; what it counted is taken off elsewhere."""
        self.sealed -= 1
        self.atoms.pop(stem, None)
        self.recent = [(event, of) for event, of in self.recent if of != stem]

    def queued(self, drained: frozenset[str], counted: dict[_Hour, int]) -> Queued:
        """What is there of the customer but for the segments of these stems, of which the sealed ones counted so."""
        merged = _Part()
        for (hour, activity), events in self.hours.items():
            left = events - counted.get((hour, activity), 0)
            if left:
                merged.count(hour, activity, left)
        for event, stem in reversed(self.recent):
            if stem not in drained:
                merged.remember(event)
        for stem, atoms in self.atoms.items():
            if stem not in drained:
                for atom in atoms.values():
                    merged.keep(atom)
        for stem, part in self.parts.items():
            if stem not in drained:
                merged.merge(part)
        return Queued(list(merged.atoms.values()), merged.hours, merged.recent[::-1])


class _Sealed:
    """What a segment counts: a row for each customer, hour and activity, 32 bytes each."""

    __slots__ = ("customers", "events", "hours", "numbers")

    def __init__(self) -> None:
        self.customers: list[_Customer] = []
        self.numbers = array("Q")
        """Of the customers, in ascending order."""
        self.hours: list[_Hour] = []
        self.events = array("Q")

    def add(self, customer: _Customer, hour: _Hour, events: int) -> None:
        self.customers.append(customer)
        self.numbers.append(customer.number)
        self.hours.append(hour)
        self.events.append(events)

    def of(self, customer: _Customer) -> Iterator[tuple[_Hour, int]]:
        for row in range(bisect_left(self.numbers, customer.number), len(self.numbers)):
            if self.numbers[row] != customer.number:
                return
            yield self.hours[row], self.events[row]


class QueuedContents:
    """Contributions of the queue's events, by customer and segment."""

    def __init__(self) -> None:
        self._customers: dict[str, _Customer] = {}
        self._reading: dict[str, list[_Customer]] = {}
        """Who has a part of a segment that is still read, by stem."""
        self._sealed: dict[str, _Sealed] = {}
        """The other segments, by stem."""
        self._hours: dict[_Hour, _Hour] = {}
        """One of each, for all rows of sealed segments."""
        self._version = 0
        self._numbers = 0

    def add(self, stem: str, found: Contribution, *, counts: bool) -> str:
        """Add an event of the segment; return before which ``ts`` another one of the two would only be counted.

        One that counts elsewhere is only made known.
        """
        customer = self._customers.get(found.customer)
        if customer is None:
            self._numbers += 1
            customer = self._customers[found.customer] = _Customer(found.customer, self._numbers)
        part = customer.parts.get(stem)
        if part is None:
            part = customer.parts[stem] = _Part()
            self._reading.setdefault(stem, []).append(customer)
        part.add(found, counts=counts)
        self._touch(customer)
        return part.recent[0].ts if len(part.recent) == RECENT_EVENTS else ""

    def count(self, stem: str, customer: str, hour: str, activity: str, events: int) -> None:
        """Count further events of a customer who has some in the segment."""
        found = self._customers[customer]
        found.parts[stem].count(hour, activity, events)
        self._touch(found)

    def settle(self, stem: str) -> None:
        """Nothing will be added to the segment any more."""
        customers = self._reading.pop(stem, None)
        if customers is None:
            return
        sealed = self._sealed[stem] = _Sealed()
        for customer in sorted(customers, key=attrgetter("number")):
            for hour, events in customer.settle(stem).hours.items() or ((_NOTHING, 0),):
                sealed.add(customer, self._hours.setdefault(hour, hour), events)

    def drop(self, stem: str) -> None:
        """Forget what the segment added."""
        for customer in self._reading.pop(stem, ()):
            del customer.parts[stem]
            self._dropped(customer)
        sealed = self._sealed.pop(stem, None)
        if sealed is None:
            return
        for customer, hour, events in zip(sealed.customers, sealed.hours, sealed.events, strict=True):
            if events:
                customer.hours[hour] -= events
                if not customer.hours[hour]:
                    del customer.hours[hour]
        for customer in dict.fromkeys(sealed.customers):
            customer.forget(stem)
            self._dropped(customer)
        if not self._sealed:
            self._hours.clear()

    def _dropped(self, customer: _Customer) -> None:
        if customer.parts or customer.sealed:
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
        counted: dict[_Hour, int] = {}
        for stem in drained & self._sealed.keys():
            for hour, events in self._sealed[stem].of(found):
                counted[hour] = counted.get(hour, 0) + events
        return found.queued(drained, counted)
