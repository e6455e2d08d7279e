"""Events about what a command did itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .terminal import printable

if TYPE_CHECKING:
    from snowledger_queue import Spool


def log_own_event(spool: Spool, done: str, session_id: str, activity: str, features: dict[str, object]) -> None:
    """Log it. A queue that does not take it must not look as if the thing had not been ``done``."""
    import anyio

    from snowledger_queue import OPERATIONAL_CUSTOMER, Origin, QueueError, new_event, open_writer

    from . import __version__

    event = new_event(
        Origin(__version__, session_id=session_id, source_system="snowledger"),
        activity=activity,
        customer=OPERATIONAL_CUSTOMER,
        feature_json=features,
    )

    async def append() -> None:
        async with open_writer(spool) as writer:
            await writer.append([event])

    try:
        anyio.run(append)
    except (QueueError, OSError) as error:
        typer.echo(printable(f"{done}, but that could not be logged: {error}"), err=True)
