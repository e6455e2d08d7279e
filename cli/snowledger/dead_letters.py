"""``snowledger dead-letter``: what could not be loaded, and how it gets another chance."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from . import options
from .chunks import chunks
from .errors import CommandError, ExitCode
from .spools import dead_letters, existing_spool
from .terminal import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snowledger_queue import DeadLetter, Event, Spool

app = typer.Typer(no_args_is_help=True, help="Look at what could not be loaded, and replay it.")


@app.command("list")
def list_letters(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the dead letters, one on each line.

    With --json each line is an object.

    Try it: snowledger dead-letter list
    """
    found = False
    for letter in dead_letters(_spool(home)):
        found = True
        if as_json:
            typer.echo(json.dumps(letter.as_json()))
        else:
            where = f"{letter.segment}:{letter.offset}" if letter.file is None else letter.segment
            columns = (letter.letter_id, f"{letter.error_class:<12}", letter.first_seen, where, letter.reason)
            typer.echo(printable("  ".join(columns)))
    if not found and not as_json:
        typer.echo("no dead letters")


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id or its first digits.")],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show one dead letter with its original bytes, or the path of the file that holds them.

    Try it: snowledger dead-letter show 1f3a
    """
    from snowledger_queue import DeadLetterBox

    spool = _spool(home)
    (letter,) = _chosen(list(dead_letters(spool)), [letter_id])
    if as_json:
        typer.echo(json.dumps(letter.as_json(), indent=2))
        return
    for name, value in letter.as_json().items():
        typer.echo(printable(f"{name:<17}{value if name != 'file' else DeadLetterBox(spool).file(letter)}"))


@app.command("replay")
def replay(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Letters' ids or their first digits.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay all of them.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also those whose bytes changed after they were logged, as they are now."),
    ] = False,
    home: options.Home = None,
) -> None:
    """Put dead letters back into the queue.

    Each is forgotten only when it is safe there. An event keeps its id, so that one which did arrive is not
    counted twice. A segment that could not be read goes back as a whole. A damaged letter differs from what was logged:
    look at it first (dead-letter show), then add --force if it is good enough.

    Try it: snowledger dead-letter replay --all
    """
    import anyio

    if every == bool(letter_ids):
        message = "give either the ids of letters or --all"
        raise typer.BadParameter(message)
    spool = _spool(home)
    with _replay_lock(spool):
        letters = list(dead_letters(spool))
        chosen = letters if every else _chosen(letters, letter_ids or [])
        ready: list[_Ready] = []
        files: list[DeadLetter] = []
        for letter in chosen:
            problem = _obstacle(spool, letter, force=force)
            event = problem or (_event(letter) if letter.file is None else None)
            if isinstance(event, str):
                typer.echo(printable(f"{letter.letter_id}: {event}"), err=True)
            elif event is None:
                files.append(letter)
            else:
                ready.append(_Ready(letter, event))
        anyio.run(_append, spool, ready)
        done = len(ready) + sum([_put_back(spool, letter) for letter in files])
    left = len(chosen) - len(ready) - len(files)
    typer.echo(f"replayed {count(done, 'letter')}, {left:,} left")
    if left:
        raise typer.Exit(ExitCode.FAILED)


@app.command("purge")
def purge(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Letters' ids or their first digits.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Purge all of them.")] = False,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Those first seen longer ago: 30d, 12h or 90m.")
    ] = None,
    error_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="Those of a class, as dead-letter list shows it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: options.Home = None,
) -> None:
    """Delete dead letters for ever, with the bytes that they keep.

    --older-than and --class together choose those to which both apply. Asks before it deletes.

    Try it: snowledger dead-letter purge --older-than 30d --dry-run
    """
    from snowledger_queue import CLASSES, DeadLetterBox

    if [every, bool(letter_ids), older_than is not None or error_class is not None].count(True) != 1:
        message = "give either the ids of letters, or --all, or --older-than and --class"
        raise typer.BadParameter(message)
    if error_class is not None and error_class not in CLASSES:
        message = f"{error_class!a} is no class; accepted: {', '.join(CLASSES)}"
        raise typer.BadParameter(message)
    before = "~" if older_than is None else _moment(older_than)  # which sorts after every time
    spool = _spool(home)
    letters = list(dead_letters(spool))
    chosen = _chosen(letters, letter_ids) if letter_ids else letters
    chosen = [one for one in chosen if one.first_seen < before and error_class in {None, one.error_class}]
    what = count(len(chosen), "letter")
    if dry_run or not chosen:
        for letter in chosen:
            typer.echo(printable(f"{letter.letter_id}  {letter.error_class:<12}  {letter.reason}"))
        typer.echo(f"{what} would be purged")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"{what} would be purged for ever: say --yes, or look first with --dry-run")
        typer.confirm(f"Purge {what} for ever?", abort=True)
    # Only now, for whoever is asked may be out for lunch. What was replayed meanwhile is gone already.
    with _replay_lock(spool):
        DeadLetterBox(spool).remove(chosen)
    typer.echo(f"purged {what}, {len(letters) - len(chosen):,} left")


class _Ready(NamedTuple):
    letter: DeadLetter
    event: Event


def _put_back(spool: Spool, letter: DeadLetter) -> bool:
    """Bring a file back into the queue; whether it was there. The letter is forgotten in either case."""
    from snowledger_queue import DeadLetterBox

    box = DeadLetterBox(spool)
    found = box.put_back(letter)
    if not found:
        gone = "its file is not there any more: a replay that was interrupted brought it back, or somebody took it away"
        typer.echo(printable(f"{letter.letter_id}: {gone}; nothing is left to replay"), err=True)
    # Only now: until it is in the queue, the letter says where it is.
    box.remove([letter])
    return found


def _moment(age: str) -> str:
    """The time so long ago, in the form of a letter's."""
    from snowledger_queue import timestamp

    unit = {"m": "minutes", "h": "hours", "d": "days"}.get(age[-1:])
    if unit is not None and age[:-1].isdecimal():
        with suppress(OverflowError, ValueError):  # before the year 1; thousands of digits
            return timestamp(datetime.now(UTC) - timedelta(**{unit: int(age[:-1])}))
    message = f"{age!a} is no age; accepted: a number and m, h or d, such as 30d"
    raise typer.BadParameter(message)


async def _append(spool: Spool, ready: Sequence[_Ready]) -> None:
    from anyio import to_thread

    from snowledger_queue import DeadLetterBox, open_writer

    box = DeadLetterBox(spool)
    async with open_writer(spool) as writer:
        for chunk in chunks(ready, lambda item: len(item.event.line)):
            await writer.append([item.event for item in chunk])
            # Only now: until the acknowledgement the letter is the one place where the event is kept.
            await to_thread.run_sync(box.remove, [item.letter for item in chunk])


def _obstacle(spool: Spool, letter: DeadLetter, *, force: bool) -> str | None:
    """Why the letter cannot be replayed now; None when it can."""
    from snowledger_queue import damage

    if (spool.queue / letter.segment).exists():
        # The uploader may still write to this segment's letters, and two writers would lose one's.
        return "its segment is still being loaded; replay it later"
    if letter.file is not None:
        return _obstacle_of_file(spool, letter)
    if not letter.original:
        return f"there is nothing to replay ({letter.reason}); purge it once it is dealt with"
    if not force and (letter.error_class == "damaged" or damage(letter.original) is not None):
        return "its bytes are not those that were logged; --force replays them as they are"
    return None


def _obstacle_of_file(spool: Spool, letter: DeadLetter) -> str | None:
    from snowledger_queue import DeadLetterBox, QueueError, parse_segment_name

    path = DeadLetterBox(spool).file(letter)
    if letter.error_class == "foreign" or parse_segment_name(letter.segment) is None:
        return f"no segment; if it holds events run: snowledger import {path}, then purge the letter"
    if letter.error_class != "unreadable":
        return f"larger than any event; its bytes are in {path}"
    try:
        if path.exists():
            spool.filesystem.read(path)
    except (OSError, QueueError) as error:
        return f"still not readable: {error}"
    return None


def _event(letter: DeadLetter) -> Event | str:
    """The letter's event, or why it is none."""
    from snowledger_queue import InvalidEventError, Origin

    from . import __version__
    from .ndjson import parse_event

    try:
        return parse_event(letter.original, Origin(__version__, session_id="replay"))
    except InvalidEventError as error:
        return f"not an event any more: {error}"


@contextmanager
def _replay_lock(spool: Spool) -> Iterator[None]:
    from snowledger_queue import ProcessLock

    lock = ProcessLock.acquire(spool.dead_letters / "replay.lock", "replay")
    try:
        yield
    finally:
        lock.release()


def _chosen(letters: Sequence[DeadLetter], letter_ids: Sequence[str]) -> list[DeadLetter]:
    """The letters with these ids (or unique beginnings of ids), each once."""
    chosen: dict[str, DeadLetter] = {}
    for wanted in letter_ids:
        found = [letter for letter in letters if wanted and letter.letter_id.startswith(wanted.lower())]
        if len(found) != 1:
            what = "no dead letter has" if not found else f"{len(found)} dead letters have"
            raise CommandError(f"{what} an id that begins with {wanted!a}; see snowledger dead-letter list")
        chosen[found[0].letter_id] = found[0]
    return list(chosen.values())


def _spool(home: object) -> Spool:
    from .settings import load_settings

    return existing_spool(load_settings(home=home).home)
