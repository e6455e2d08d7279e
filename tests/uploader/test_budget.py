"""The budget turns the kill switch on by itself, once, and only for what was used since it was turned off."""

import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.uploader.query_samples import (
    ago,
    begun,
    ended,
    event,
    load,
    queued_events,
    set_kill_switch,
    started,
    submitted,
    write_templates,
)
from tests.uploader.uploader_samples import ORIGIN

from snowledger_queue import KillSwitchError, RunnerTickets, Spool, timestamp
from snowledger_uploader import Budget, OwnEvents

CREDIT_S = 3600
"""An hour of a warehouse of size XS."""


def budget(spool: Spool, tickets: RunnerTickets, credits_per_hour: float, monkeypatch: pytest.MonkeyPatch) -> Budget:
    monkeypatch.setattr("snowledger_uploader._budget._LOOK_S", 0.0)
    return Budget(tickets, OwnEvents(spool), ORIGIN, credits_per_hour)


def ran(spool: Spool, tickets: RunnerTickets, seconds: float, until_s_ago: float = 0) -> None:
    """A query that ran so long and ended so many seconds ago."""
    submitted(spool, "activity_counts", now=ago(hours=2))
    end = datetime.now(UTC) - timedelta(seconds=until_s_ago)
    claimed = tickets.claim(timestamp(end - timedelta(seconds=seconds)))
    assert claimed is not None
    tickets.fail(claimed.ticket_id, "for the test", timestamp(end))


def test_below_the_limit_queries_run(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RunnerTickets(spool)) as tickets:
        limit = budget(spool, tickets, 0.1, monkeypatch)
        ran(spool, tickets, 0.09 * CREDIT_S)
        switch = tickets.kill_switch()
        assert limit.look()
        assert tickets.kill_switch() == switch
    assert queued_events(spool, "cdesk.kill_switch_changed") == []


def test_beyond_the_limit_the_kill_switch_goes_on_with_the_reason_on_record(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(RunnerTickets(spool)) as tickets:
        limit = budget(spool, tickets, 0.1, monkeypatch)
        ran(spool, tickets, 0.06 * CREDIT_S, until_s_ago=300)
        ran(spool, tickets, 0.06 * CREDIT_S)
        tickets.prune(ago(), {}, 0)
        set_off_long_ago(spool)
        for _ in range(3):
            assert not limit.look()
        switch = tickets.kill_switch()
        assert (switch.on, switch.by) == (True, "budget")
        assert "0.12 credits" in switch.reason
        assert "the limit is 0.1" in switch.reason
        with pytest.raises(KillSwitchError, match="credits"):
            tickets.submit(
                customer="acme",
                customers=("acme",),
                template="activity_counts",
                params="{}",
                query_hash="0" * 64,
                query_tag="cdesk_0123abcd",
                byte_cap=None,
                max_age_s=0,
                now=ago(),
            )
    [changed] = queued_events(spool, "cdesk.kill_switch_changed")
    assert changed["customer"] == "snowledger"
    assert changed["feature_json"] == {"on": True, "reason": switch.reason, "by": "budget"}
    assert caplog.text.count("the kill switch is on") == 1


def set_off_long_ago(spool: Spool) -> None:
    with closing(RunnerTickets(spool)) as tickets:
        tickets.set_kill_switch(on=True, reason="for the test", by="operator", now=ago(hours=3))
        tickets.set_kill_switch(on=False, reason="", by="operator", now=ago(hours=3))


def test_what_ran_more_than_an_hour_ago_does_not_count(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RunnerTickets(spool)) as tickets:
        limit = budget(spool, tickets, 0.1, monkeypatch)
        ran(spool, tickets, 0.5 * CREDIT_S, until_s_ago=CREDIT_S + 1)
        set_off_long_ago(spool)
        assert limit.look()


def test_after_an_operator_turned_it_off_as_much_again_is_allowed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RunnerTickets(spool)) as tickets:
        limit = budget(spool, tickets, 0.1, monkeypatch)
        ran(spool, tickets, 0.2 * CREDIT_S, until_s_ago=10)
        set_off_long_ago(spool)
        assert not limit.look()
        set_kill_switch(spool, on=False)
        assert limit.look()
        assert not tickets.kill_switch().on


def test_what_an_operator_does_is_noticed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snowledger_uploader")
    with closing(RunnerTickets(spool)) as tickets:
        tickets.recover(ago())
        limit = budget(spool, tickets, 1, monkeypatch)
        assert limit.look()
        set_kill_switch(spool, on=True, reason="moving house")
        assert not limit.look()
        assert "moving house" in caplog.text
        set_kill_switch(spool, on=False)
        assert limit.look()
        assert "the kill switch is off" in caplog.text
    assert queued_events(spool, "cdesk.kill_switch_changed") == []  # whoever turned it logged it


async def test_a_query_that_uses_the_budget_up_is_stopped_while_it_runs(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    templates = write_templates(tmp_path / "templates")
    await load(path, tmp_path, [event(number) for number in range(300)])
    async with started(spool, path, templates, credits_per_hour=0.5 / CREDIT_S):
        asked = submitted(spool, "endless", templates)
        await begun(spool, asked)
        done = await ended(spool, asked)
    assert done.status == "cancelled"
    assert "credits" in (done.error or "")
    assert len(queued_events(spool, "cdesk.kill_switch_changed")) == 1
