"""A process of its own that uses a spool; `queue_process.py` starts it and reads what it prints.

It ends in good order when its standard input closes.
"""

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

from snowledger_queue import (
    Origin,
    ProcessLock,
    QueueError,
    QueueWriteError,
    RotationPolicy,
    new_event,
    open_spool,
    open_writer,
    server_presence,
)


def say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


async def append(home: Path, groups: int, size: int, rotation: RotationPolicy) -> None:
    """Append groups of events, saying after each which ids are acknowledged, and how it failed."""
    origin = Origin(source_version="1", session_id=str(os.getpid()))
    async with open_writer(open_spool(home), rotation) as writer:
        for number in range(groups):
            group = [
                new_event(origin, activity="cdesk.x", customer="acme", feature_json={"group": number, "n": n})
                for n in range(size)
            ]
            try:
                await writer.append(group)
                say(acked=[made.activity_id for made in group])
            except QueueError as error:
                say(failed=type(error).__name__, cause=getattr(error.__cause__, "errno", None))
        await asyncio.to_thread(sys.stdin.read)


async def append_without_descriptors(home: Path) -> None:
    """Append events that each begin a segment, from the second on without a descriptor for one, then with some."""
    origin = Origin(source_version="1", session_id=str(os.getpid()))
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with open_writer(open_spool(home), RotationPolicy(max_bytes=1, max_age_s=600)) as writer:
        for number in range(9):
            if number == 1:
                resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0) + 1, usual[1]))
            elif number == 6:
                resource.setrlimit(resource.RLIMIT_NOFILE, usual)
            made = new_event(origin, activity="cdesk.x", customer="acme", feature_json={"n": number})
            await writer.append([made])
            say(acked=[made.activity_id])


async def append_within_limit(home: Path) -> None:
    """Append until the file-size limit is hit, then lift it and append again."""
    origin = Origin(source_version="1", session_id=str(os.getpid()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500, resource.RLIM_INFINITY))
    async with open_writer(open_spool(home), RotationPolicy(max_age_s=600)) as writer:
        failures = 0
        for number in range(20):
            made = new_event(origin, activity="cdesk.x", customer="acme", feature_json={"n": number})
            try:
                await writer.append([made])
                say(acked=[made.activity_id])
            except QueueWriteError as error:
                failures += 1
                say(failed=type(error).__name__, cause=getattr(error.__cause__, "errno", None))
                if failures == 3:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def main(role: str, home: Path, *rest: str) -> None:
    match role:
        case "append":
            groups, size, max_bytes = map(int, rest)
            asyncio.run(append(home, groups, size, RotationPolicy(max_bytes, max_age_s=600)))
        case "limit":
            asyncio.run(append_within_limit(home))
        case "descriptors":
            asyncio.run(append_without_descriptors(home))
        case "lock":
            lock = ProcessLock.acquire(open_spool(home).uploader_lock, "uploader")
            say(pid=os.getpid())
            sys.stdin.read()
            lock.release()
        case "server":
            with server_presence(open_spool(home)):
                say(pid=os.getpid())
                sys.stdin.read()


main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
