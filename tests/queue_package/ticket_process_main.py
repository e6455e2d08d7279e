"""A process of its own that uses the tickets of a spool; it says what it did and waits for the end of its input."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

from tests.queue_package.context_samples import at
from tests.queue_package.ticket_samples import ask

from snowledger_queue import RunnerTickets, StateError, Ticket, Tickets, open_spool


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def again_while_locked(submission: Callable[[], tuple[Ticket, bool]]) -> Ticket:
    """As a client does; on a busy machine twenty at once may keep one for longer than it waits."""
    while True:
        try:
            return submission()[0]
        except StateError as error:
            if not error.transient:
                raise


def submit(home: str, name: str, threads: int, each: int) -> None:
    """Submit from several threads, each with a connection, when a line comes in; say each ticket and its place."""

    def submit_some(thread: int) -> None:
        tickets = Tickets(open_spool(Path(home)))
        for number in range(each):
            customer = f"{name}-{thread}"
            asked = again_while_locked(partial(ask, tickets, number, customer=customer, now=at(number)))
            say(f"{asked.ticket_id} {customer} {number}")
        tickets.close()

    sys.stdin.readline()
    running = [Thread(target=submit_some, args=[thread]) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def claim(home: str) -> None:
    """Begin with a ticket as an uploader, and do nothing more."""
    runner = RunnerTickets(open_spool(Path(home)))
    runner.recover(at())
    ticket = runner.claim(at(1))
    say("nothing" if ticket is None else ticket.ticket_id)
    sys.stdin.read()


if sys.argv[1] == "submit":
    submit(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    claim(sys.argv[2])
