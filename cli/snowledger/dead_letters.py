"""``snowledger dead-letter``: what could not be loaded, and how it gets another chance."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from . import options
from .errors import CommandError, ExitCode
from .spools import dead_letters, existing_spool
from .terminal import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snowledger_queue import DeadLetter, Event, Spool

CHUNK_LETTERS = 1000
"""Letters that share one flush."""

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
            where = f"{letter.segment}:{letter.offset}"
            columns = (letter.letter_id, f"{letter.error_class:<8}", letter.first_seen, where, letter.reason)
            typer.echo(printable("  ".join(columns)))
    if not found and not as_json:
        typer.echo("no dead letters")


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id or its first digits.")],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show one dead letter with its original bytes.

    Try it: snowledger dead-letter show 1f3a
    """
    (letter,) = _chosen(list(dead_letters(_spool(home))), [letter_id])
    if as_json:
        typer.echo(json.dumps(letter.as_json(), indent=2))
        return
    for name, value in letter.as_json().items():
        typer.echo(printable(f"{name:<17}{value}"))


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
    counted twice. A damaged letter differs from what was logged: look at it first (dead-letter show), then add
    --force if it is good enough.

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
        for letter in chosen:
            problem = _obstacle(spool, letter, force=force)
            event = problem or _event(letter)
            if isinstance(event, str):
                typer.echo(f"{letter.letter_id}: {event}", err=True)
            else:
                ready.append(_Ready(letter, event))
        anyio.run(_append, spool, ready)
    left = len(chosen) - len(ready)
    typer.echo(f"replayed {count(len(ready), 'letter')}, {left:,} left")
    if left:
        raise typer.Exit(ExitCode.FAILED)


class _Ready(NamedTuple):
    letter: DeadLetter
    event: Event


async def _append(spool: Spool, ready: Sequence[_Ready]) -> None:
    from anyio import to_thread

    from snowledger_queue import DeadLetterBox, open_writer

    box = DeadLetterBox(spool)
    async with open_writer(spool) as writer:
        for first in range(0, len(ready), CHUNK_LETTERS):
            chunk = ready[first : first + CHUNK_LETTERS]
            await writer.append([item.event for item in chunk])
            # Only now: until the acknowledgement the letter is the one place where the event is kept.
            await to_thread.run_sync(box.remove, [item.letter for item in chunk])


def _obstacle(spool: Spool, letter: DeadLetter, *, force: bool) -> str | None:
    """Why the letter cannot be replayed now; None when it can."""
    from snowledger_queue import damage

    if (spool.queue / letter.segment).exists():
        # The uploader may still write to this segment's letters, and two writers would lose one's.
        return "its segment is still being loaded; replay it later"
    if not letter.original:
        return (
            f"there is nothing to replay ({letter.reason}); delete it from {spool.dead_letters} once it is dealt with"
        )
    if not force and (letter.error_class == "damaged" or damage(letter.original) is not None):
        return "its bytes are not those that were logged; --force replays them as they are"
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
