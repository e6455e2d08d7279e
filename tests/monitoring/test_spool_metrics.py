"""What a spool shows of itself, whether or not anything runs on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.cli.query_runner import now, submitted
from tests.monitoring.scrape import Scrape
from tests.uploader.uploader_samples import sample_lines, seal

from snowledger_queue import DeadLetterBox, ProcessLock, RunnerTickets, Spool, dead_letter, open_spool, server_presence
from snowledger_queue.metrics import SpoolCollector


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


@pytest.fixture
def registry(spool: Spool) -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    collector = SpoolCollector(spool)
    registry.register(collector)
    yield registry
    collector.close()


def seen(registry: CollectorRegistry) -> Scrape:
    return Scrape(generate_latest(registry).decode())


def test_an_empty_spool(registry: CollectorRegistry) -> None:
    found = seen(registry)
    for name in ("queue_events", "queue_bytes", "queue_oldest_age_seconds", "torn_tails", "uploader_running"):
        assert found.value(f"snowledger_{name}") == 0
    assert found.value("snowledger_kill_switch_on") == 0
    assert found.value("snowledger_dead_letters", **{"class": "damaged"}) == 0
    assert found.value("snowledger_disk_free_bytes") > 0
    assert "snowledger_tickets{" not in found.text, "nobody knows while there is no state.db"


def test_what_waits_what_was_asked_what_was_set_aside_and_who_works(spool: Spool, registry: CollectorRegistry) -> None:
    seal(spool, sample_lines(3), 0)
    (spool.torn / "x.torn").write_bytes(b"{")
    submitted(spool)
    tickets = RunnerTickets(spool)
    tickets.set_kill_switch(on=True, reason="test", by="operator", now=now())
    tickets.close()
    lock = ProcessLock.acquire(spool.uploader_lock, "uploader")
    with server_presence(spool):
        found = seen(registry)
    lock.release()
    assert found.value("snowledger_queue_events") == 3
    assert found.value("snowledger_queue_bytes") == spool.sealed_segments()[0].path.stat().st_size
    assert found.value("snowledger_queue_oldest_age_seconds") > 0
    assert found.value("snowledger_torn_tails") == 1
    assert found.value("snowledger_kill_switch_on") == 1
    assert found.value("snowledger_tickets", status="cancelled") == 1
    assert found.value("snowledger_tickets", status="queued") == 0
    assert found.value("snowledger_uploader_running") == 1
    assert found.value("snowledger_servers") == 1


def test_dead_letters_are_counted_by_class_and_forgotten_when_they_are_gone(
    spool: Spool, registry: CollectorRegistry
) -> None:
    box = DeadLetterBox(spool)
    damaged, rejected = dead_letter("damaged", "why", "s", 0, b"x"), dead_letter("rejected", "why", "t", 9, b"y")
    box.put([damaged])
    found = seen(registry)
    assert found.value("snowledger_dead_letters", **{"class": "damaged"}) == 1
    assert found.value("snowledger_dead_letters", **{"class": "rejected"}) == 0
    box.put([rejected, dead_letter("damaged", "why", "s", 5, b"z")])
    found = seen(registry)
    assert found.value("snowledger_dead_letters", **{"class": "damaged"}) == 2
    assert found.value("snowledger_dead_letters", **{"class": "rejected"}) == 1
    box.remove([damaged, rejected])
    assert seen(registry).value("snowledger_dead_letters") == 1


def test_what_cannot_be_measured_is_left_out_and_the_rest_is_told(spool: Spool, registry: CollectorRegistry) -> None:
    (spool.dead_letters / "x.ndjson").write_bytes(b"{}\n")
    spool.state.write_bytes(b"no database")
    shutil.rmtree(spool.torn)
    found = seen(registry)
    assert "snowledger_queue_bytes" not in found.text
    assert found.value("snowledger_dead_letters") == 0
    assert found.value("snowledger_dead_letter_files_damaged") == 1
    assert "snowledger_tickets" not in found.text
    assert found.value("snowledger_kill_switch_on") == 0
    assert found.value("snowledger_uploader_running") == 0
