"""Whatever became of `state.db`: readers answer without it, tickets say that it is damaged, and it is made anew."""

import tempfile
from pathlib import Path

from tests.fuzz.fuzzing import Surface, fuzz
from tests.queue_package.context_samples import at, event, insight, queue, read
from tests.queue_package.test_state_bits import check, fill, folds_within_two_tries
from tests.queue_package.ticket_samples import ask

from snowledger_queue import ContextReader, RunnerTickets, Spool, StateError, Tickets, open_spool

TOKENS = [
    b"SQLite format 3\0",
    b"CREATE TABLE",
    b"CREATE VIEW",
    b"WITHOUT ROWID",
    b"\x0d\0\0",
    b"\x05\0\0",
    b"\x7f" * 9,
]


def surface(spool: Spool) -> Surface:
    def run(data: bytes) -> str:
        for path in spool.home.glob("state.db*"):
            path.unlink()
        spool.state.write_bytes(data)
        reader, tickets, runner = ContextReader(spool), Tickets(spool), RunnerTickets(spool)
        try:
            reader.mark()
            context = read(reader, queue(insight(1, "queued"), event(2)))
            check(context)
            known = ticketed(tickets)
            claimed = runner.claim(at())
        except StateError:
            known, claimed = False, None
        finally:
            reader.close()
            tickets.close()
            runner.close()
        assert folds_within_two_tries(spool) is None
        return f"tickets {'known' if known else 'lost'}, {'a' if claimed else 'no'} query run"

    return Surface([filled()], TOKENS, run)


def ticketed(tickets: Tickets) -> bool:
    tickets.mark()
    found = tickets.list(None, 10)
    ask(tickets, 5)
    return bool(found)


def filled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder) / "spool")
        fill(spool)
        return spool.state.read_bytes()


def test_a_damaged_state_fails_no_reader_and_is_made_anew(scratch: Path) -> None:
    fuzz(surface(open_spool(scratch / "spool")))
