"""What a fuzzed surface is, how its inputs are made, and how many are tried.

An input is a seed that was changed in some places, or bytes of nothing but tokens and noise. Each is made from the
run's seed and its own number alone, so an input that breaks a promise comes again by itself. (Hypothesis, which shrinks
what it finds, takes 2 ms to make an input: a hundred times as long.)
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random, SystemRandom

INPUTS = int(os.environ.get("FUZZ_INPUTS", "0"))
"""So many for each surface (`make fuzz`); 0 tries what `BUDGET_S` allows."""

SEED = int(os.environ.get("FUZZ_SEED") or SystemRandom().randrange(2**32))
"""Another one in each run; a failure tells it."""

BUDGET_S = 0.7
"""How long a surface is tried in the test suite."""

CPU_LIMIT_S = 5.0
"""An input that takes so much of the processor is a hang: usual ones take milliseconds."""

_NOISE = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"\\u0000",
    b"\\ud800",
    "\u2028".encode(),
    b"9" * 5000,  # int() takes no more than 4,300
]
"""What many a parser has stumbled over."""


@dataclass(frozen=True)
class Surface:
    """What takes bytes from outside."""

    seeds: Sequence[bytes]
    """Inputs that it accepts."""
    tokens: Sequence[bytes]
    """What means something to it; noise comes by itself."""
    run: Callable[[bytes], str]
    """Give it the input and say in a word what came of it. Raises when a promise is broken."""


class HangError(BaseException):
    """An input took more than `CPU_LIMIT_S`. No handler of `Exception` may take it for the input's own."""


def fuzz(surface: Surface, *, inputs: int = INPUTS, seed: int = SEED) -> Counter[str]:
    """Try so many inputs (0: for `BUDGET_S`); how often each outcome came."""
    outcomes: Counter[str] = Counter()
    began = time.monotonic()
    for number in count():
        if number >= inputs if inputs else time.monotonic() - began > BUDGET_S:
            break
        data = made(surface, seed, number)
        try:
            with _cpu_limit():
                outcomes[surface.run(data)] += 1
        except BaseException as error:
            error.add_note(f"input {number} of seed {seed}: {data!r}")
            raise
    took = time.monotonic() - began
    print(f"{outcomes.total():,} inputs in {took:.1f} s from seed {seed}: {dict(outcomes.most_common())}")  # noqa: T201
    return outcomes


def made(surface: Surface, seed: int, number: int) -> bytes:
    """The input of that number; the first are the seeds as they are."""
    if number < len(surface.seeds):
        return surface.seeds[number]
    random = Random(f"{seed} {number}")
    if random.random() < 0.1:
        return b"".join(_piece(surface, random) for _ in range(random.randint(0, 12)))
    data = random.choice(surface.seeds)
    for _ in range(random.choice([1, 1, 1, 2, 3, 6])):
        data = _changed(data, random, surface)
    return data


def _piece(surface: Surface, random: Random) -> bytes:
    return random.choice([random.choice(surface.tokens), random.choice(_NOISE), random.randbytes(random.randint(1, 4))])


def _changed(data: bytes, random: Random, surface: Surface) -> bytes:
    start = random.randint(0, len(data))
    end = min(start + random.choice([1, 1, 4, 16, 64]), len(data))
    other = random.choice(surface.seeds)
    piece = _piece(surface, random)
    middle = random.randint(0, len(other))
    inserted = random.choice(
        [
            piece,
            piece,
            b"",
            bytes([random.choice(data or b"0")]),
            other[middle : middle + random.randint(1, 16)],
            bytes(byte ^ 1 << random.randint(0, 7) for byte in data[start : start + 1]),
            data[start:end] * random.choice([2, 100]),
            other[middle:],
        ]
    )
    # In place, so that what counts bytes from the start still finds the rest; inserted; or as the new end.
    rest = random.choice([start + len(inserted), start + len(inserted), start, end, len(data)])
    return data[:start] + inserted + data[rest:]


@contextmanager
def _cpu_limit() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _hang(*_: object) -> None:
    raise HangError
