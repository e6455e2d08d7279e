"""How large a run is: some seconds in the suite, as large as `make torture` asks for."""

import functools
import os
import time


def size(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def time_limit_s(name: str, each_s: float) -> float:
    """For a test: as any other's, or by the size that is asked for."""
    return 300 + each_s * size(name, 0) if name in os.environ else 60


@functools.cache
def torture_seed() -> int:
    """Repeats a run's choices, though not what the scheduler makes of them; a failure and `make torture` show it."""
    seed = size("SNOWLEDGER_TORTURE_SEED", time.time_ns() % 10**9)
    print(f"SNOWLEDGER_TORTURE_SEED={seed}")  # noqa: T201
    return seed
