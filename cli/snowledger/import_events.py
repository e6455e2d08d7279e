"""``snowledger import``."""

from __future__ import annotations

import os
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from . import options
from .chunks import chunks
from .errors import CommandError, ExitCode
from .terminal import count, duration, printable, progress, size

if TYPE_CHECKING:
    from snowledger_queue import Event, Origin, PressureLimits, QueueWriter, Spool

BLOCK_BYTES = 1024 * 1024
"""What is read at once, and with the line that it leaves unfinished all that is held in memory."""

LOOK_AGAIN_S = 0.5
"""While the queue is full: the uploader takes a second or so for a batch."""

SHOWN_REJECTS = 20
"""Enough to see what is wrong; a file of the wrong kind has millions."""

_STDIN = Path("-")


def import_events(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="NDJSON files, one event on each line; - is standard input.",
        ),
    ],
    home: options.Home = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Write every rejected line there, as {file, line, reason, original}.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the lines; queue nothing.")] = False,
) -> None:
    """Queue events from NDJSON files.

    A line is an event as snowledger writes it, or just {activity, customer, ts, feature_json}. Wrong lines
    are rejected one by one, with the reason (exit code 1); the others are queued, durably. Importing a file
    again counts none of its events twice. When the queue is full, it waits for the uploader; when none runs, it
    ends and says so.

    Try it: snowledger import --dry-run events.ndjson
    """
    import anyio

    from .pressure import pressure_limits
    from .settings import load_settings

    for file in files:  # all of them before the first is queued
        if file != _STDIN and (file.is_dir() or not os.access(file, os.R_OK)):
            raise CommandError(f"{file} is not a file that can be read; nothing was queued")
    settings = load_settings(home=home)
    started = time.monotonic()
    with ExitStack() as stack:
        tally = _Tally(None if rejects is None else stack.enter_context(_open_rejects(rejects, files)))
        room = None
        if not dry_run:
            from snowledger_queue import open_spool

            room = _Room(open_spool(settings.home), pressure_limits(settings))
        show = stack.enter_context(progress("checking" if dry_run else "importing", of_bytes=True))
        try:
            anyio.run(_import, files, room, tally, show)
        except KeyboardInterrupt:
            if not dry_run:
                queued = count(tally.accepted, "event")
                sys.stderr.write(f"interrupted with {queued} queued; import again, what is queued counts once\n")
            raise
    tally.say_rest()
    lines = f"{count(tally.rejected, 'line')} rejected ({duration(time.monotonic() - started)})"
    if dry_run:
        typer.echo(f"{count(tally.accepted, 'event')} valid, {lines}; nothing was queued")
    else:
        typer.echo(f"queued {count(tally.accepted, 'event')}, {lines}")
    if tally.rejected:
        raise typer.Exit(ExitCode.FAILED)


class _Tally:
    """Counts, and tells of rejected lines as they come."""

    def __init__(self, rejects: BinaryIO | None) -> None:
        self._rejects = rejects
        self.accepted = 0
        self.rejected = 0

    def reject(self, file: str, line: int, reason: str, original: bytes | None) -> None:
        self.rejected += 1
        if self.rejected <= SHOWN_REJECTS:
            sys.stderr.write(f"{printable(f'{file}:{line}: {reason}')}\n")
        if self._rejects is not None:
            import orjson

            fields: dict[str, object] = {"file": file, "line": line, "reason": reason}
            try:
                fields["original"] = None if original is None else original.decode()
            except UnicodeDecodeError:
                fields["original_base64"] = b64encode(original or b"").decode()
            self._rejects.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def say_rest(self) -> None:
        if self.rejected > SHOWN_REJECTS:
            rest = count(self.rejected - SHOWN_REJECTS, "more rejected line")
            sys.stderr.write(f"... and {rest}{'; see them all with --rejects FILE' if self._rejects is None else ''}\n")


def _open_rejects(path: Path, files: Sequence[Path]) -> BinaryIO:
    if path.exists() and any(file != _STDIN and path.samefile(file) for file in files):
        raise CommandError(f"--rejects {path} is one of the files to import")
    return path.open("wb")


class _Room:
    """The spool, and whether it has room for more."""

    def __init__(self, spool: Spool, limits: PressureLimits) -> None:
        from snowledger_queue import LoadMeter, PressureGauge

        self.spool = spool
        self._meter = LoadMeter(spool)
        self._gauge = PressureGauge(limits)
        self._said = False

    async def wait(self, tally: _Tally) -> None:
        """Return when there is room.

        Raises:
            CommandError: nobody makes any.
        """
        import anyio
        from anyio import to_thread

        from snowledger_queue import lock_holder

        while True:
            pressure = self._gauge.judge(await to_thread.run_sync(self._meter.measure))
            if pressure.state != "refusing":
                return
            if pressure.reason == "disk":
                raise _stopped(pressure.problem(), tally, "Make room")
            if await to_thread.run_sync(lock_holder, self.spool.uploader_lock) is None:
                raise _stopped(f"{pressure.problem()}, and no uploader runs", tally, "Start 'snowledger upload'")
            if not self._said:
                self._said = True
                sys.stderr.write(f"waiting for the uploader: {pressure.problem()}\n")
            await anyio.sleep(LOOK_AGAIN_S)


def _stopped(problem: str, tally: _Tally, advice: str) -> CommandError:
    return CommandError(
        f"{problem}; {count(tally.accepted, 'event')} queued. {advice} and import the files again: "
        "what is queued already counts once"
    )


async def _import(files: Sequence[Path], room: _Room | None, tally: _Tally, show: Callable[[int, int], None]) -> None:
    from snowledger_queue import Origin, open_writer

    from . import __version__

    origin = Origin(__version__, session_id="import", source_system="import")
    total = 0 if _STDIN in files else sum(file.stat().st_size for file in files)
    done = 0
    async with AsyncExitStack() as stack:
        writer = None if room is None else await stack.enter_async_context(open_writer(room.spool))
        for file in files:
            async for read, events in _events(file, origin, tally):
                await _append(writer, room, events, tally)
                done += read
                show(done, total)


async def _events(file: Path, origin: Origin, tally: _Tally) -> AsyncIterator[tuple[int, list[Event]]]:
    """For each block of the file its size and the valid events that end in it."""
    import aiofiles
    import anyio

    from .ndjson import LineCutter

    name = "<stdin>" if file == _STDIN else str(file)
    source: int | Path = sys.stdin.fileno() if file == _STDIN else file
    cutter = LineCutter()
    # Unbuffered, a read from a pipe gives what is there instead of waiting for a whole block.
    async with aiofiles.open(source, "rb", buffering=0, closefd=file != _STDIN) as reader:
        while True:
            with suppress(OSError):  # an ordinary file is always ready, and epoll says so with an error
                # Otherwise the read's thread would wait for a silent pipe, and Ctrl-C for the thread.
                await anyio.wait_readable(reader.fileno())
            block = await reader.read(BLOCK_BYTES)
            if not block:
                break
            yield len(block), list(_valid(cutter.feed(block), name, origin, tally))
    yield 0, list(_valid(cutter.end(), name, origin, tally))


def _valid(lines: Iterable[tuple[int, bytes | None]], name: str, origin: Origin, tally: _Tally) -> Iterator[Event]:
    from snowledger_queue import InvalidEventError

    from .ndjson import MAX_LINE_BYTES, check_checksum, parse_event

    for number, line in lines:
        if line is None:
            tally.reject(name, number, f"longer than {size(MAX_LINE_BYTES)}", None)
        elif line.strip():
            try:
                check_checksum(line)
                event = parse_event(line, origin)
            except InvalidEventError as error:
                tally.reject(name, number, str(error), line)
            else:
                yield event


async def _append(writer: QueueWriter | None, room: _Room | None, events: list[Event], tally: _Tally) -> None:
    from snowledger_queue import QueueError

    for chunk in chunks(events, lambda event: len(event.line)):
        if writer is not None and room is not None:
            await room.wait(tally)
            try:
                await writer.append(chunk)
            except QueueError as error:
                raise _stopped(str(error), tally, "Mend it") from error
        tally.accepted += len(chunk)
