"""The protocol of sd_notify: what a service manager is told, and that it can be away, busy or none."""

import logging
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.ledger import Ledger
from tests.uploader.service_manager import ServiceManager, service_manager
from tests.uploader.uploader_samples import sample_lines, seal

from snowledger_queue import Notifier, _notify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="AF_UNIX datagrams and signals are POSIX")

DATAGRAM_BYTES = 4096
"""systemd passes a longer one over."""


@pytest.fixture
def manager() -> Iterator[ServiceManager]:
    with service_manager() as manager:
        yield manager


def test_values_of_one_call_are_lines_of_one_datagram(manager: ServiceManager) -> None:
    Notifier(manager.address).tell(READY="1", STATUS="idle")
    assert manager.listen() == ["READY=1\nSTATUS=idle"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_an_at_sign_stands_for_an_abstract_address() -> None:
    with service_manager(f"@snowledger-{uuid.uuid4().hex}") as manager:
        Notifier(manager.address).tell(READY="1")
        assert manager.listen() == ["READY=1"]


def test_without_an_address_no_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "socket")
    notifier = Notifier(None)
    notifier.tell(READY="1")
    notifier.progressed()


@pytest.mark.parametrize(
    "text", ["two\nREADY=1\r\nlines", "x" * 10_000, "\U0001f389" * 10_000, "a name \udcff of bytes"]
)
def test_no_text_becomes_another_assignment_or_too_long_a_datagram(text: str, manager: ServiceManager) -> None:
    Notifier(manager.address).tell(STATUS=text, WATCHDOG="1")
    (datagram,) = manager.listen()
    assert [line.partition("=")[0] for line in datagram.split("\n")] == ["STATUS", "WATCHDOG"]
    assert len(datagram.encode()) <= DATAGRAM_BYTES


def test_what_nobody_heard_is_told_again_and_logged_once(
    manager: ServiceManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.close()
    notifier = Notifier(manager.address)
    with caplog.at_level(logging.WARNING):
        notifier.tell(READY="1")
        notifier.tell(STATUS="loading")
    assert len(caplog.records) == 1
    Path(manager.address).unlink()
    with service_manager(manager.address) as restarted:
        notifier.tell(STATUS="idle")
        notifier.tell(WATCHDOG="1")
        assert restarted.listen() == ["READY=1\nSTATUS=idle", "WATCHDOG=1"]


def test_a_busy_manager_is_not_waited_for(manager: ServiceManager) -> None:
    notifier = Notifier(manager.address)
    for number in range(2000):  # more than a socket's queue holds
        notifier.tell(STATUS=str(number))
    notifier.tell(READY="1")
    assert not manager.hears("READY=1")
    notifier.tell(STATUS="last")
    assert manager.listen()[-1] == "STATUS=last\nREADY=1"


def test_progress_is_told_at_most_once_a_second(manager: ServiceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier(manager.address)
    for _ in range(1000):
        notifier.progressed()
    assert manager.listen() == ["WATCHDOG=1"]
    monkeypatch.setattr(_notify, "PROGRESS_S", 0.0)
    notifier.progressed()
    assert manager.listen() == ["WATCHDOG=1"] * 2


def test_a_manager_hears_that_the_uploader_is_ready_works_and_stops(ledger: Ledger, manager: ServiceManager) -> None:
    process = ledger.start("upload", NOTIFY_SOCKET=manager.address)
    manager.wait_for("READY=1")
    assert ledger.rows("SELECT count(*) > 0 FROM activities.raw_events")  # the warehouse has been opened
    manager.forget()
    manager.wait_for("WATCHDOG=1")
    manager.forget()
    manager.wait_for("WATCHDOG=1")  # while idle, again and again
    seal(ledger.spool, sample_lines(3))
    manager.wait_for("STATUS=idle; 3 events in 1 batches since the start")
    assert manager.hears("STATUS=loading…")
    assert not manager.hears("STOPPING=1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert manager.hears("STATUS=stopped…")
    said = "\n".join(manager.told)
    assert said.index("STOPPING=1") < said.index("STATUS=stopped")


def test_a_warehouse_that_cannot_be_used_is_never_ready(ledger: Ledger, manager: ServiceManager) -> None:
    ledger.home.mkdir(mode=0o700)
    ledger.warehouse.write_text("not a database")
    process = ledger.start("upload", NOTIFY_SOCKET=manager.address)
    assert process.wait(20) == 3  # which the unit does not restart
    assert manager.hears("STATUS=stopped: …")
    assert not manager.hears("READY=1")


def test_when_the_watchdog_ends_it_the_log_says_where_it_was(ledger: Ledger, manager: ServiceManager) -> None:
    process = ledger.start("upload", NOTIFY_SOCKET=manager.address)
    manager.wait_for("READY=1")
    process.send_signal(signal.SIGABRT)
    assert process.wait(10) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in ledger.errors
    assert "_run.py" in ledger.errors
