"""Which of a customer's insights hold: of each subject and metric the last that has begun, unless it has ended."""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from ._customer_state import KnownAtom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._customer_state import CustomerState
    from ._recall import Atom

_versions = itertools.count(1)


class Position(NamedTuple):
    """A place in the order of insights."""

    verified: bool
    recorded_at: str
    atom_id: str


class Asked(NamedTuple):
    """Which insights somebody wants: at most ``limit`` of those after ``after`` whose subject starts so."""

    limit: int
    subject_prefix: str
    after: Position | None

    @property
    def page(self) -> bool:
        """Whether not all are wanted."""
        return bool(self.subject_prefix) or self.after is not None


class Insights(NamedTuple):
    """Those that hold, and for how long that is so."""

    version: int
    """The same number means the same insights."""
    shown: list[Atom]
    """Verified ones first, then the newest (``recorded_at``, ``atom_id``) first; at most ``limit``."""
    total: int
    """How many there are."""
    valid_until: str | None
    """When the next atom begins or ends, as it was read; None: never."""
    known: Sequence[KnownAtom]
    asked: Asked
    since: str
    """These three are what ``state.db`` had when they were found, what was asked, and when."""

    def hold(self, known: Sequence[KnownAtom], asked: Asked, now: str) -> bool:
        """Whether they would be found again, with nothing in the queue then and now."""
        return (
            self.known is known
            and self.asked == asked
            and self.since <= now
            and (self.valid_until is None or now < self.valid_until)
        )


def find_insights(
    state: CustomerState, queued: Sequence[Atom], asked: Asked, now: str, atom: Callable[[KnownAtom], Atom]
) -> Insights:
    """Look through what ``state.db`` and the queue have; ``atom`` gives what the state does not have whole.

    Raises what ``atom`` raises.
    """
    whole = {**(state.atoms or {}), **{atom[:4]: atom for atom in queued}}
    known = [*state.known, *(KnownAtom(*atom[:5], *atom[7:]) for atom in queued)]
    holding = _holding(known, asked, now)
    valid_until = min(_turns(known, now), default=None)
    shown = [whole.get(known.key) or atom(known) for known in holding[: asked.limit]]
    return Insights(next(_versions), shown, len(holding), valid_until, state.known, asked, now)


def _holding(known: Iterable[KnownAtom], asked: Asked, now: str) -> list[KnownAtom]:
    last: dict[tuple[str, str], KnownAtom] = {}
    for atom in known:
        if atom.valid_from is None or atom.valid_from <= now:
            key = atom[:2]
            before = last.get(key)
            # An atom that is in the queue as well as in state.db is not after itself.
            if before is None or atom[2:4] > before[2:4]:
                last[key] = atom
    holding = [
        atom
        for atom in last.values()
        if (atom.valid_to is None or atom.valid_to > now)
        and atom.subject.startswith(asked.subject_prefix)
        and (asked.after is None or _position(atom) < asked.after)
    ]
    return sorted(holding, key=attrgetter(*Position._fields), reverse=True)


def _position(atom: KnownAtom) -> Position:
    return Position(bool(atom.verified), atom.recorded_at, atom.atom_id)


def _turns(known: Iterable[KnownAtom], now: str) -> Iterator[str]:
    """When atoms begin or end."""
    for atom in known:
        for moment in (atom.valid_from, atom.valid_to):
            if moment is not None and moment > now:
                yield moment
