"""Who is calling: decides which customers a call may touch."""

from __future__ import annotations

from dataclasses import dataclass

from ._errors import NotAllowedError


@dataclass(frozen=True, slots=True)
class Identity:
    """The authenticated caller: its own customer and the others it may read and write."""

    customer: str
    allowed: frozenset[str] = frozenset()

    def customer_for(self, requested: object) -> str:
        """The customer a call is about: the caller's own unless it names an allowed one.

        Raises:
            NotAllowedError: the same for a customer that exists and one that does not.
        """
        if requested is None or requested == self.customer:
            return self.customer
        if isinstance(requested, str) and requested in self.allowed:
            return requested
        raise NotAllowedError
