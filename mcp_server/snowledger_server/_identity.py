"""Who is calling: decides which customers a call may touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snowledger_queue import check_customer

from ._errors import NotAllowedError

if TYPE_CHECKING:
    from snowledger_queue import Origin


@dataclass(frozen=True, slots=True)
class Identity:
    """The authenticated caller: its own customer and the others it may read and write."""

    customer: str
    allowed: frozenset[str] = frozenset()

    @property
    def customers(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({self.customer, *self.allowed}))

    def allowed_with(self, customer: str) -> frozenset[str] | None:
        """Whose rows may be in results of the customer's queries besides its own; None: they are not the caller's."""
        return self.allowed if customer == self.customer else None

    def customer_for(self, requested: object) -> str:
        """The customer a call is about: the caller's own unless it names an allowed one.

        Raises:
            snowledger_queue.InvalidEventError: no customer can have that id.
            NotAllowedError: the same for a customer that exists and one that does not.
        """
        if requested is None or requested == self.customer:
            return self.customer
        check_customer(requested, "customer_id")
        if requested in self.allowed:
            return str(requested)
        raise NotAllowedError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and what is recorded of where it came from. A transport decides both for each request."""

    identity: Identity
    origin: Origin
