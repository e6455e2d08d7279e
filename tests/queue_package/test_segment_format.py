"""The bytes on disk: a format that other tools read and that must never change unnoticed."""

import hashlib
import json
import shutil
import subprocess
import zlib
from pathlib import Path

import duckdb
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.queue_package.queue_samples import ORIGIN, sample_event, sample_events

from snowledger_queue import (
    SealedSegment,
    SegmentName,
    Spool,
    damage,
    derived_id,
    event_from_envelope,
    intact_lines,
    new_event,
    parse_segment_name,
    verify_segment,
    with_checksum,
)

GOLDEN = Path(__file__).with_name("golden") / "1763698847123-0123456789ab-00000001-3.ndjson"

GOLDEN_LINE = (
    b'{"activity_id":"00000000000000000000000000000007","ts":"2026-11-21T04:20:47.123456Z","customer":"acme",'
    b'"activity":"cdesk.user_asked","feature_json":{"number":7},"_source_system":"claude_desktop",'
    b'"_source_version":"1.2.3","_session_id":"session-1","_query_tag":"cdesk_0123abcd","_schema_version":1,'
    b'"_crc":"98bb482c"}\n'
)


def seal(spool: Spool, content: bytes, events: int) -> SealedSegment:
    name = SegmentName(1_763_698_847_123, "0123456789ab", 1, events)
    path = spool.queue / name.sealed(events)
    path.write_bytes(content)
    return SealedSegment(path, name)


def test_the_golden_line_never_changes() -> None:
    assert sample_event(7).line == GOLDEN_LINE


def test_the_golden_segment_is_still_read_and_written(spool: Spool) -> None:
    name = parse_segment_name(GOLDEN.name)
    assert name is not None
    segment = SealedSegment(GOLDEN, name)
    verified = verify_segment(spool, segment)
    assert (verified.events, verified.damaged, verified.missing) == (3, (), 0)
    assert verified.sha256.hex() == hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    assert verified.sha256.hex() == "09a13a5d15bb73fe6827a1621763857eb00bca5601f96384babacbd47417824c"
    for _, line in intact_lines(spool, segment):
        assert event_from_envelope(orjson.loads(line), ORIGIN).line == line + b"\n"


def test_golden_ids_never_change() -> None:
    # Another derivation would let a retry across an upgrade become a second event.
    keyed = new_event(ORIGIN, activity="cdesk.a", customer="acme", feature_json={}, idempotency_key="order-1")
    assert keyed.activity_id == "12bd8ceb73198666904648430410b900"
    assert derived_id("content", "a", "b") == "73278c19e41b8fd2a60c2ef3313997e5"


def test_the_checksum_is_zlibs_crc32_of_all_that_precedes_it() -> None:
    line = sample_event(7, text="é\u2028").line
    body, _, rest = line.rpartition(b',"_crc"')
    assert rest == b':"%08x"}\n' % zlib.crc32(body)
    assert with_checksum(body + b"}") == line


def test_the_id_is_the_first_member() -> None:
    assert sample_event(7).line[16:48] == b"00000000000000000000000000000007"


def test_every_single_bit_flip_is_noticed() -> None:
    line = sample_event(7).line[:-1]
    assert damage(line) is None
    for bit in range(len(line) * 8):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        assert damage(bytes(flipped)) is not None, f"bit {bit}: {bytes(flipped)!r}"


def test_a_line_cut_anywhere_is_noticed() -> None:
    line = sample_event(7).line[:-1]
    for cut in range(len(line)):
        assert damage(line[:cut]) is not None
        assert cut == 0 or damage(line[cut:]) is not None
    assert damage(line + line) is not None


def test_damage_says_whether_the_end_is_missing() -> None:
    line = sample_event(7).line[:-1]
    assert "no checksum at the end" in str(damage(line[:-1]))
    assert "checksum does not match" in str(damage(line.replace(b"acme", b"acne")))


def test_each_damaged_line_is_reported_alone_with_its_place(spool: Spool) -> None:
    lines = [event.line for event in sample_events(5)]
    content = b"".join([lines[0], lines[1].replace(b"acme", b"acne"), lines[2], b"\0" * 9 + lines[3][9:], lines[4]])
    segment = seal(spool, content, 5)
    verified = verify_segment(spool, segment)
    assert (verified.events, verified.missing, verified.size) == (3, 0, len(content))
    assert [found.offset for found in verified.damaged] == [len(lines[0]), len(b"".join(lines[:3]))]
    for found in verified.damaged:
        assert content[found.offset :].startswith(found.line + b"\n")
    kept = list(intact_lines(spool, segment))
    assert [line + b"\n" for _, line in kept] == [lines[0], lines[2], lines[4]]
    assert all(content[offset:].startswith(line) for offset, line in kept)


def test_a_segment_cut_at_any_byte_after_sealing_loses_nothing_silently(spool: Spool) -> None:
    lines = [event.line for event in sample_events(3)]
    content = b"".join(lines)
    for cut in range(len(content)):
        segment = seal(spool, content[:cut], 3)
        verified = verify_segment(spool, segment)
        delivered = [line for _, line in intact_lines(spool, segment)]
        assert len(delivered) == verified.events
        assert verified.events + len(verified.damaged) + verified.missing == 3
        assert not {line for _, line in intact_lines(spool, segment)} & {found.line for found in verified.damaged}
        segment.path.unlink()


def test_an_empty_line_is_damage(spool: Spool) -> None:
    verified = verify_segment(spool, seal(spool, sample_event(1).line + b"\n", 1))
    assert (verified.events, len(verified.damaged)) == (1, 1)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_reads_a_segment() -> None:
    printed = subprocess.run(["jq", "-c", ".feature_json", GOLDEN], capture_output=True, check=True)
    expected = [json.loads(line)["feature_json"] for line in GOLDEN.read_bytes().split(b"\n")[:-1]]
    assert [json.loads(line) for line in printed.stdout.split(b"\n")[:-1]] == expected


def test_duckdb_reads_a_segment() -> None:
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT activity_id, customer, feature_json, _crc FROM read_ndjson(?, columns = {activity_id: 'VARCHAR',"
            " customer: 'VARCHAR', feature_json: 'JSON', _crc: 'VARCHAR'})",
            [str(GOLDEN)],
        ).fetchall()
    events = [json.loads(line) for line in GOLDEN.read_bytes().split(b"\n")[:-1]]
    assert [(name, customer, json.loads(features), crc) for name, customer, features, crc in rows] == [
        (event["activity_id"], event["customer"], event["feature_json"], event["_crc"]) for event in events
    ]


NAMES = st.builds(
    SegmentName,
    st.integers(0, 10**14),
    st.text("0123456789abcdef", min_size=12, max_size=12),
    st.integers(0, 10**10),
    st.none(),
)


@given(NAMES, st.integers(1, 10**9))
def test_a_name_says_the_same_after_a_round_trip(name: SegmentName, events: int) -> None:
    assert parse_segment_name(name.active) == name
    assert parse_segment_name(name.sealed(events)) == name._replace(events=events)


@given(NAMES, NAMES)
def test_names_sort_by_age(one: SegmentName, other: SegmentName) -> None:
    one, other = one._replace(opened_ms=one.opened_ms % 10**13), other._replace(opened_ms=other.opened_ms % 10**13)
    if one.opened_ms < other.opened_ms:
        assert one.active < other.active
        assert one.sealed(10) < other.sealed(9)


@pytest.mark.parametrize(
    "name",
    [
        "format",
        ".1763698847123-0123456789ab-00000001.open",
        "1763698847123-0123456789AB-00000001.open",
        "1763698847123-0123456789ab-00000001.ndjson",
        "1763698847123-0123456789ab-00000001-5.open",
        "1763698847123-0123456789ab-00000001-5.ndjson\n",
        "1763698847123-0123456789ab-00000001-5.ndjson.tmp",
        "176369884712٣-0123456789ab-00000001.open",
        "1763698847123-0123456789ab-00000001-٣.ndjson",
    ],
)
def test_another_file_is_no_segment(name: str) -> None:
    assert parse_segment_name(name) is None
