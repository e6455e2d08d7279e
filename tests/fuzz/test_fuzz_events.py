"""Whatever a line holds that somebody imports: it is refused by name, or it is an event that loads."""

from pathlib import Path

import orjson
from tests.fuzz.fuzzing import Surface, fuzz
from tests.queue_package.context_samples import event, insight
from tests.uploader.uploader_samples import batch_of, loaded_lines, opened

from snowledger.ndjson import LineCutter, check_checksum, parse_event
from snowledger_queue import InvalidEventError, Origin, contribution, damage

ORIGIN = Origin("1.2.3", "session-1")
ELSEWHERE = Origin("9.9.9", "session-9")

SHORT = b'{"activity":"cdesk.user_asked","customer":"acme","ts":"2026-11-21T04:20:47Z","feature_json":{"a":[1,-2.5e3]}}'


def unchecked(line: bytes, **more: object) -> bytes:
    """The line without its checksum, which would refuse all that was changed."""
    return orjson.dumps({**{name: value for name, value in orjson.loads(line).items() if name != "_crc"}, **more})


LONG = unchecked(event(1, text="zürich"), link="https://a.b/c", revenue_impact=1.5)
SEEDS = [SHORT, LONG, *(unchecked(line) for line in (event(2), insight(3, {"a": None}))), event(4)[:-1]]
TOKENS = [
    *(b'"%s"' % name for name in (b"activity", b"customer", b"ts", b"feature_json", b"_crc", b"_sample_rate", b"link")),
    *(b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"[" * 100),
    *(b'{"a":' * 70, b"cdesk.", b"..", b"snowledger", b"cdesk.batch_loaded", b"2026-02-30", b"+99:00", b"9999-12-31"),
]


def run(data: bytes) -> str:
    try:
        check_checksum(data)
        made = parse_event(data, ORIGIN)
    except InvalidEventError as refused:
        return refusal(str(refused))
    line, end = made.line[:-1], made.line[-1:]
    assert end == b"\n"
    assert b"\n" not in line
    assert damage(line) is None
    assert parse_event(line, ELSEWHERE) == made, "the same line again is the same event"
    read = contribution(line)
    assert read is None or read.customer == orjson.loads(line)["customer"]
    taken[made.activity_id] = made.line
    return "taken"


def refusal(said: str) -> str:
    assert len(said) < 1000
    assert said.isprintable()
    return "refused"


taken: dict[str, bytes] = {}
"""The last event of each id."""

LOADED = 10_000
"""So many of them are loaded: one batch."""


def cut(data: bytes) -> str:
    """Lines are the same in whatever blocks they come."""
    cutter = LineCutter()
    whole = [*cutter.feed(data), *cutter.end()]
    cutter = LineCutter()
    pieces = [line for start in range(0, len(data), 7) for line in cutter.feed(data[start : start + 7])]
    assert [*pieces, *cutter.end()] == whole
    return run(whole[0][1] or b"") if whole else "nothing"


async def test_an_imported_line_is_refused_by_name_or_an_event_that_loads(tmp_path: Path) -> None:
    outcomes = fuzz(Surface(SEEDS, TOKENS, cut))
    assert outcomes["refused"]
    lines = list(taken.values())[-LOADED:]
    assert lines
    async with opened(tmp_path / "warehouse.duckdb") as warehouse:
        await warehouse.load(batch_of(tmp_path, lines))
    assert set(loaded_lines(tmp_path / "warehouse.duckdb")) == set(lines)
