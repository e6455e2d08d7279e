"""Faults to be had on order."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["403", "429", "503", "reset", "stall", "expired", "gone", "wrong_password", "error"]
When = Literal["before", "after"]


@dataclass
class Fault:
    """What shall go wrong with the requests whose text `match` is found in, `times` times."""

    match: str
    kind: Kind
    times: int = 1
    when: When = "before"
    seconds: float = 0.0
    code: int = 0
    message: str = ""

    def fits(self, text: str) -> bool:
        return self.times > 0 and re.search(self.match, text, re.IGNORECASE | re.DOTALL) is not None


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._poison: list[re.Pattern[str]] = []

    def add(self, fault: Fault) -> None:
        re.compile(fault.match)
        self._faults.append(fault)

    def add_poison(self, match: str) -> None:
        self._poison.append(re.compile(match))

    def take(self, text: str) -> Fault | None:
        """The first fault for a request; it is used up by one."""
        for fault in self._faults:
            if fault.fits(text):
                fault.times -= 1
                return fault
        return None

    def unused(self) -> int:
        """How often faults are still to come."""
        return sum(fault.times for fault in self._faults)

    @property
    def poison(self) -> str | None:
        """What no line of a loaded file may match."""
        return "|".join(f"(?:{pattern.pattern})" for pattern in self._poison) or None

    def clear(self) -> None:
        self._faults.clear()
        self._poison.clear()
