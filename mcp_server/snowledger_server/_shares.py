"""What there is only so much of, and all want: one may have half of it, so that others get some too."""

from __future__ import annotations

from collections import Counter


class Shares:
    """Counts who has how much."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._of: Counter[str] = Counter()

    def take(self, who: str, amount: int = 1) -> bool:
        """Whether there was so much left."""
        if self._taken + amount > self._most or self._of[who] + amount > max(1, self._most // 2):
            return False
        self._taken += amount
        self._of[who] += amount
        return True

    def give(self, who: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self._taken -= amount
        self._of[who] -= amount
        if not self._of[who]:
            del self._of[who]
