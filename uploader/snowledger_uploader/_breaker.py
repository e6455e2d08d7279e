"""The circuit breaker around the warehouse, which loads, contexts and queries share.

``closed``: calls pass. After ``THRESHOLD`` failures in a row it is ``open``: calls are refused without a look at the
warehouse until a pause is over. Then one call may pass, the probe, and it is ``half-open`` until that has ended: an
answer closes it, a failure opens it for longer. Pauses double, with jitter, up to a limit, on the monotonic clock.

Only a ``WarehouseUnavailableError`` is a failure. A warehouse that refuses (credentials, privileges, a bad row) is
there: that closes the breaker, and whoever asked spaces its attempts by its own rule.

After a load's failure only a load's answer counts: a warehouse without room for more can still be read. There is one to
come, for what was not loaded is still queued.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from snowledger_queue import BreakerStatus, timestamp

from ._errors import UploaderError, WarehouseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"

THRESHOLD = 5
"""Failures in a row that open it: with the pauses between them one to two seconds, which is longer than another
program's short query holds a DuckDB file."""

FIRST_PAUSE_S = 0.05
"""A DuckDB file is typically held by another program for one short query."""

MAX_PAUSE_S = 15.0
"""A warehouse that comes back is noticed within this time."""

MAX_FILE_PAUSE_S = 2.0
"""The same for a DuckDB file: to look whether it is free takes some milliseconds and disturbs nobody."""

LOOK_S = 0.1
"""How soon to ask again while somebody else's probe is under way."""


class Breaker:
    """See the module. For one thread, that of the event loop."""

    def __init__(self, max_pause_s: float = MAX_PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._next_at = float("-inf")
        self._next_probe_at = ""
        self._probe: object = None
        self._since = datetime.now(UTC)
        self._since_at = clock()
        self._problem = ""
        self._loads_fail = False
        """Whether one of the failures was a load's."""
        self.state = CLOSED
        self.failures = 0
        """In a row, since the last answer."""
        self.opened = 0
        """How often it opened."""
        self.retries = 0
        """Calls that passed after a failure."""
        self.foreign = False
        """Whether one of the failures was met by anything but a batch of the uploader's own events."""
        self.on_change: Callable[[], None] = lambda: None
        """Is called after each change of the state."""

    def ready(self) -> bool:
        """Whether a call would pass now."""
        return self.state == CLOSED or (self.state == OPEN and self._clock() >= self._next_at)

    def wait_s(self) -> float:
        """How long whoever has work should wait before the next call; 0: not at all."""
        return LOOK_S if self.state == HALF_OPEN else max(0.0, self._next_at - self._clock())

    def away_s(self) -> float:
        """For how long the warehouse has been away; 0 while the breaker is closed."""
        return 0.0 if self.state == CLOSED else self._clock() - self._since_at

    def away(self) -> WarehouseUnavailableError:
        """What a refused call raises: the last failure's words."""
        return WarehouseUnavailableError(self._problem)

    def attempt(self, *, own: bool = False, load: bool = False) -> Attempt:
        """One call, or some that belong together; ``own`` says that it is about the uploader's own events alone."""
        return Attempt(self, own=own, load=load)

    def status(self) -> BreakerStatus:
        """For the uploader's status."""
        next_probe_at = self._next_probe_at if self.state == OPEN else None
        since = timestamp(self._since)
        return BreakerStatus(self.state, since, self.failures, next_probe_at, self.opened, self.retries)

    def _begin(self) -> object:
        """Let a call pass, or raise; what it is to be told by as the probe, else None."""
        if not self.ready():
            raise self.away()
        if self.failures:
            self.retries += 1
        if self.state == OPEN:
            self._probe = object()
            self._turn(HALF_OPEN)
            return self._probe
        return None

    def _succeed(self, probe: object, *, load: bool) -> None:
        if self._loads_fail and not load:
            self._leave(probe)
            return
        # Also by a call that began before it opened: the warehouse is there.
        self.failures = 0
        self.foreign = False
        self._loads_fail = False
        self._next_at = float("-inf")
        if self.state != CLOSED:
            self._turn(CLOSED)

    def _fail(self, problem: str, probe: object, *, own: bool, load: bool) -> None:
        if self.state != CLOSED and (probe is None or probe is not self._probe):
            return  # it began before it opened, and tells nothing new
        self._problem = problem
        self.foreign = self.foreign or not own
        self._loads_fail = self._loads_fail or load
        self.failures += 1
        if self.failures >= THRESHOLD:
            self._open()
        else:
            self._next_at = self._clock() + self._pause_s()

    def _leave(self, probe: object) -> None:
        if probe is not None and probe is self._probe:
            self._open()

    def _open(self) -> None:
        if self.state == CLOSED:
            self.opened += 1
        pause_s = self._pause_s()
        self._next_at = self._clock() + pause_s
        self._next_probe_at = timestamp(datetime.now(UTC) + timedelta(seconds=pause_s))
        self._turn(OPEN)

    def _turn(self, state: str) -> None:
        if state != HALF_OPEN:
            self._probe = None
        # It is away from when it opened until it closes, whatever the probes do.
        if CLOSED in {state, self.state}:
            self._since = datetime.now(UTC)
            self._since_at = self._clock()
        self.state = state
        self.on_change()

    def _pause_s(self) -> float:
        # The exponent is bounded: after some hours 2**failures would no longer fit into a float.
        return min(FIRST_PAUSE_S * 2.0 ** min(self.failures, 20), self._max_pause_s) * random.uniform(0.5, 1)  # noqa: S311


class Attempt:
    """A context for a call. Gives what to call once the warehouse has answered; its end is an answer, too.

    A failure after an answer is the call's own affair. Raises ``WarehouseUnavailableError`` at its beginning when the
    call is refused; nothing was done then.
    """

    def __init__(self, breaker: Breaker, *, own: bool, load: bool) -> None:
        self._breaker = breaker
        self._own = own
        self._load = load
        self._probe: object = None
        self._known = False

    def __enter__(self) -> Callable[[], None]:
        self._probe = self._breaker._begin()  # noqa: SLF001 - the other half of it
        return self._answered

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or (isinstance(error, UploaderError) and not isinstance(error, WarehouseUnavailableError)):
            self._answered()
        elif not self._known:
            if isinstance(error, WarehouseUnavailableError):
                self._breaker._fail(str(error), self._probe, own=self._own, load=self._load)  # noqa: SLF001
            else:  # cancelled, or nothing that the warehouse did
                self._breaker._leave(self._probe)  # noqa: SLF001

    def _answered(self) -> None:
        if not self._known:
            self._known = True
            self._breaker._succeed(self._probe, load=self._load)  # noqa: SLF001
