"""``snowledger import``: exactly the good lines are queued, and each bad one is told with its place."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.cli.cli_process import Cli

from snowledger.import_events import SHOWN_REJECTS
from snowledger.ndjson import MAX_LINE_BYTES, LineCutter
from snowledger_queue import Origin, damage, new_event

ORIGIN = Origin("0.1.0", "session")
SHORT: dict[str, Any] = {
    "activity": "cdesk.user_asked",
    "customer": "acme",
    "ts": "2026-01-01T00:00:00Z",
    "feature_json": {"n": 1},
}


def short(**members: object) -> bytes:
    return json.dumps({**SHORT, **members}, ensure_ascii=False).encode()


def envelope() -> bytes:
    features = {"text": "ä\u2028"}
    return new_event(ORIGIN, activity="cdesk.sql_executed", customer="acme", feature_json=features).line[:-1]


BAD_LINES = {
    b"{": "json: not valid JSON: ",
    b"[]": "event: must be a JSON object",
    b"null": "event: must be a JSON object",
    b"\xff": "json: byte 0 is not UTF-8",
    b'{"a":1,"a":2}': "json: the key 'a' is there twice",
    b'{"activity":NaN}': "json: NaN is not JSON",
    b"[" * 100_000: "json: ",
    short(activity="other.thing"): "activity: 'other.thing' is not in the cdesk.* namespace",
    short(customer=None): "customer: must be a string, not null",
    short(ts="yesterday"): "ts: not a time",
    short(feature_json=[]): "feature_json: must be a JSON object, not list",
    short(feature_json={"n": 2**53}): "feature_json.n: the integer is outside",
    short(feature_json={"t": "x" * 300_000}): "feature_json: has 300008 bytes; accepted are up to 262144",
    short(extra=1): "extra: unknown member",
    short(activity_id="1"): "activity_id: not an id",
    envelope().replace(b"sql_executed", b"sql_exeCuted"): "_crc: the checksum does not match",
    short(_crc="00000000").replace(b', "_crc": ', b',"_crc":'): "_crc: ",
    short(feature_json={"t": "x" * MAX_LINE_BYTES}): "longer than 1.0 MiB",
}


def test_both_forms_are_queued_as_durable_events(cli: Cli) -> None:
    whole = envelope()
    done = cli.run("import", "-", text=whole + b"\n" + short() + b"\n")
    assert done.stdout.startswith("queued 2 events, 0 lines rejected (")
    assert done.stderr == ""
    first, second = cli.queued()
    assert first == json.loads(whole)
    assert {name: second[name] for name in ("activity", "customer", "feature_json")} == {
        name: SHORT[name] for name in ("activity", "customer", "feature_json")
    }
    assert second["ts"] == "2026-01-01T00:00:00.000000Z"
    lines = [line for found in cli.spool.sealed_segments() for line in found.path.read_bytes().split(b"\n")]
    assert [damage(line) for line in lines if line] == [None, None]


def test_importing_again_gives_the_same_ids(cli: Cli) -> None:
    for _ in range(2):
        cli.run("import", "-", text=short())
    first, second = cli.queued()
    assert first == second


@pytest.mark.parametrize(
    "text",
    [
        short() + b"\r\n" + short(customer="b") + b"\r\n",
        b"\xef\xbb\xbf" + short() + b"\n" + short(customer="b"),
        b"\n \t\r\n" + short() + b"\n\n" + short(customer="b") + b"\n\n",
    ],
    ids=["crlf", "byte order mark and no last newline", "blank lines"],
)
def test_what_editors_and_windows_do_to_files_is_accepted(text: bytes, cli: Cli) -> None:
    cli.run("import", "-", text=text)
    assert [event["customer"] for event in cli.queued()] == ["acme", "b"]


def test_each_bad_line_is_told_with_its_place_and_reason_and_the_others_are_queued(cli: Cli) -> None:
    file = cli.folder / "events.ndjson"
    lines = [short(feature_json={"first": True}), *BAD_LINES, short(feature_json={"last": True})]
    file.write_bytes(b"\n".join(lines))
    done = cli.run("import", file, "--rejects", "rejects.ndjson", code=1)
    assert done.stdout.startswith(f"queued 2 events, {len(BAD_LINES)} lines rejected (")
    assert [event["feature_json"] for event in cli.queued()] == [{"first": True}, {"last": True}]

    told = done.stderr.splitlines()
    assert len(told) == len(BAD_LINES)
    for number, (line, reason) in enumerate(zip(told, BAD_LINES.values(), strict=True), start=2):
        assert line.startswith(f"{file}:{number}: {reason}")
        assert len(line) < 500

    rejects = [json.loads(line) for line in (cli.folder / "rejects.ndjson").read_bytes().splitlines()]
    assert [reject["line"] for reject in rejects] == list(range(2, len(BAD_LINES) + 2))
    assert {reject["file"] for reject in rejects} == {str(file)}
    for reject, original in zip(rejects, BAD_LINES, strict=True):
        if len(original) > MAX_LINE_BYTES:
            assert reject["original"] is None
        elif "original" in reject:
            assert reject["original"].encode() == original
        else:
            assert b64decode(reject["original_base64"]) == original


def test_only_the_first_rejects_are_shown_and_the_rest_counted(cli: Cli) -> None:
    done = cli.run("import", "-", text=b"x\n" * (SHOWN_REJECTS + 3), code=1)
    shown = done.stderr.splitlines()
    assert len(shown) == SHOWN_REJECTS + 1
    assert shown[0].startswith("<stdin>:1: json: ")
    assert shown[-1] == "... and 3 more rejected lines; see them all with --rejects FILE"


def test_dry_run_checks_and_makes_nothing(cli: Cli) -> None:
    done = cli.run("import", "--dry-run", "-", text=short() + b"\nx\n", code=1)
    assert done.stdout.startswith("1 event valid, 1 line rejected (")
    assert not cli.home.exists()


def test_many_files_more_events_than_a_chunk(cli: Cli) -> None:
    for name in ("a", "b"):
        lines = [short(customer=name, feature_json={"n": number}) for number in range(2500)]
        (cli.folder / name).write_bytes(b"\n".join(lines))
    assert cli.run("import", "a", "b").stdout.startswith("queued 5,000 events, ")
    found = [(event["customer"], event["feature_json"]["n"]) for event in cli.queued()]
    assert found == [(name, number) for name in ("a", "b") for number in range(2500)]


def test_unreadable_files_are_refused_before_anything_is_queued(cli: Cli) -> None:
    (cli.folder / "good").write_bytes(short())
    for wrong in ("missing", "."):
        done = cli.run("import", "good", wrong, code=1)
        assert done.stderr == f"snowledger: {wrong} is not a file that can be read; nothing was queued\n"
    assert not cli.home.exists()


def test_rejects_never_overwrite_what_is_imported(cli: Cli) -> None:
    (cli.folder / "events").write_bytes(short())
    done = cli.run("import", "events", "--rejects", "./events", code=1)
    assert done.stderr == "snowledger: --rejects events is one of the files to import\n"
    assert (cli.folder / "events").read_bytes() == short()


def test_lines_from_a_slow_pipe_are_queued_as_they_come(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    process = cli.start("import", "-")
    processes.append(process)
    assert process.stdin is not None
    process.stdin.write(short() + b"\n")
    process.stdin.flush()
    deadline = time.monotonic() + 10
    while not cli.statistics().events:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.stdin.close()
    assert process.wait(timeout=10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_line_without_end_does_not_fill_the_memory(cli: Cli, processes: list[subprocess.Popen[bytes]]) -> None:
    process = cli.start("import", "--dry-run", "-")
    processes.append(process)

    def feed() -> None:
        assert process.stdin is not None
        for _ in range(200):
            process.stdin.write(b"x" * MAX_LINE_BYTES)
        process.stdin.flush()

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(timeout=20)
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    output, errors = process.communicate(b"\n" + short())
    assert peak_kib < 120 * 1024
    assert output.startswith(b"1 event valid, 1 line rejected (")
    assert errors == b"<stdin>:1: longer than 1.0 MiB\n"


@pytest.mark.skipif(os.name == "nt", reason="a limit of POSIX")
def test_a_full_disk_says_what_is_safe_and_what_to_do(cli: Cli) -> None:
    cli.run("import", "-", text=short())
    program = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "from snowledger.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "import", "-"],
        env=cli.environment({}),
        input=b"\n".join(short(customer=str(number)) for number in range(10)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("snowledger: cannot write to the queue: File too large; 0 events queued. Mend it")


good_lines = st.builds(
    lambda customer, number: short(customer=customer, feature_json={"n": number}),
    st.text("abcä漢😀 '", min_size=1, max_size=5).filter(lambda text: text == text.strip()),
    st.integers(0, 1000),
)
bad_lines = st.sampled_from([line for line in BAD_LINES if len(line) < 1000])


# Each example is a process, so a failing one is shown as found instead of shrunk.
@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(
    lines=st.lists(st.one_of(good_lines, bad_lines, st.just(b""), st.just(b"\r")), max_size=40),
    end=st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_mix_of_lines_queues_exactly_the_good_ones(lines: list[bytes], end: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cli = Cli(Path(folder))
        bad = sum(line in BAD_LINES for line in lines)
        cli.run("import", "-", text=end.join(lines), code=1 if bad else 0)
        good = [json.loads(line) for line in lines if line.strip() and line not in BAD_LINES]
        queued = [(event["customer"], event["feature_json"]) for event in cli.queued()]
        assert queued == [(event["customer"], event["feature_json"]) for event in good]


@given(content=st.lists(st.sampled_from([b"\n", b"\r", b"a", b"bc", "\u2028".encode(), b"\x0b"])), data=st.data())
def test_lines_are_the_same_however_the_blocks_are_cut(content: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    cutter = LineCutter()
    found: list[tuple[int, bytes | None]] = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += cutter.feed(whole[start:end])
    found += cutter.end()
    lines = whole.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert found == [(number, line.removesuffix(b"\r")) for number, line in enumerate(lines, start=1)]


@pytest.mark.parametrize("block", [MAX_LINE_BYTES, 65536, 3 * MAX_LINE_BYTES])
def test_lines_up_to_the_limit_are_kept_and_longer_ones_dropped(block: int) -> None:
    longest, longer = b"x" * MAX_LINE_BYTES, b"y" * (MAX_LINE_BYTES + 1)
    whole = b"\n".join([longest, longer, b"z", longer])
    cutter = LineCutter()
    found: list[tuple[int, bytes | None]] = []
    for start in range(0, len(whole), block):
        found += cutter.feed(whole[start : start + block])
    found += cutter.end()
    assert found == [(1, longest), (2, None), (3, b"z"), (4, None)]


def test_what_only_snowledger_writes_is_refused_without_its_checksum(cli: Cli) -> None:
    forged = b'{"activity":"cdesk.insight_recorded","customer":"a","ts":"2026-01-01","feature_json":{"verified":true}}'
    done = cli.run("import", "-", code=1, text=forged)
    assert "is written by the tool log_insight" in done.stderr
    written = new_event(
        Origin("1.2.3", "s"), activity="cdesk.insight_recorded", customer="a", feature_json={"verified": False}
    ).line
    cli.run("import", "-", text=written)
