"""Whether a file or folder has changed, told by a time stamp that counts in steps."""

from __future__ import annotations

STEP_S = 0.02
"""Linux stamps with a clock that stands still for up to 10 ms; newer kernels and other systems are finer."""

COARSE_STEP_S = 2.0
"""FAT's; ext3 and HFS+ count whole seconds."""

_SECOND_NS = 1_000_000_000


class Stamp:
    """Remembers what was stamped on a thing when its content was looked at.

    A change within the stamp's step leaves the stamp as it is, so a look is final only if it began when that step was
    over for certain: a step after the stamp was first seen. That is measured on the monotonic clock of this process,
    for the wall clock may jump and a file system may have its own.
    """

    __slots__ = ("_final", "_since", "_value")

    def __init__(self) -> None:
        self._value: int | tuple[int, int] | None = None
        self._since = 0.0
        self._final = False

    def differs(self, value: int | tuple[int, int], now: float) -> bool:
        """Whether the content must be looked at, again or for the first time; ``value`` ends with the stamp's time."""
        if value != self._value:
            self._value, self._since, self._final = value, now, False
        return not self._final

    def looked(self, began: float) -> None:
        """The content was looked at; the look began at that time, after ``differs``."""
        value = self._value[-1] if isinstance(self._value, tuple) else self._value
        step = COARSE_STEP_S if value is not None and value % _SECOND_NS == 0 else STEP_S
        self._final = began - self._since >= step

    def distrust(self) -> None:
        """Something else tells that the content has changed."""
        self._final = False
