"""Who is calling: decides which customers a call may touch."""

from __future__ import annotations

from dataclasses import dataclass

from snowledger_queue import check_customer

from ._errors import NotAllowedError


@dataclass(frozen=True, slots=True)
class Identity:
    """The authenticated caller: its own customer and the others it may read and write."""

    customer: str
    allowed: frozenset[str] = frozenset()

    @property
    def customers(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({self.customer, *self.allowed}))

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
