"""What statements answer, in Snowflake's JSON and Arrow forms."""

import base64
import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from fakesnow.arrow import to_ipc, to_sf

# Kinds of statements as Snowflake numbers them; the connector tells by them what a reply means.
SELECT = 0x1000
INSERT = 0x3100
UPDATE = 0x3200
DELETE = 0x3300
MERGE = 0x3400
COPY = 0x3600
SESSION = 0x4100
SHOW = 0x4400
LIST = 0x4700
TRANSACTION = 0x5100
DDL = 0x6000
REMOVE = 0x7103
DML = {INSERT, UPDATE, DELETE, MERGE, COPY}

DONE = "Statement executed successfully."
_TYPES = {
    "BIGINT": "fixed",
    "BLOB": "binary",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "DOUBLE": "real",
    "FLOAT": "real",
    "HUGEINT": "fixed",
    "INTEGER": "fixed",
    "JSON": "variant",
    "SMALLINT": "fixed",
    "TIME": "time",
    "TIMESTAMP WITH TIME ZONE": "timestamp_ltz",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP_NS": "timestamp_ntz",
    "TINYINT": "fixed",
    "UBIGINT": "fixed",
    "UINTEGER": "fixed",
    "VARCHAR": "text",
    '"NULL"': "text",
}
# Snowflake sends the first rows with the reply and the rest in chunks that grow.
_FIRST_ROWS, _CHUNK_ROWS = 100, 10_000
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_LONGEST = 16_777_216  # Snowflake's default length of VARCHAR
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Chunk(NamedTuple):
    """A part of a result, as Arrow."""

    content: bytes
    rows: int


@dataclass
class Outcome:
    """A statement's result; `columns` are names with DuckDB's types."""

    kind: int
    columns: list[tuple[str, str]]
    table: pa.Table
    affected: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_rows(cls, kind: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Outcome":
        """A small table: text, and whole numbers where the first row holds one."""
        first = rows[0] if rows else [None] * len(columns)
        types = ["BIGINT" if isinstance(value, int) else "VARCHAR" for value in first]
        arrays = [
            pa.array([row[place] for row in rows], pa.int64() if name == "BIGINT" else pa.string())
            for place, name in enumerate(types)
        ]
        return cls(kind, list(zip(columns, types, strict=True)), pa.table(arrays, names=list(columns)))

    @classmethod
    def status(cls, kind: int, message: str = DONE) -> "Outcome":
        return cls.of_rows(kind, ["status"], [[message]])


def data_of(outcome: Outcome, *, arrow: bool) -> tuple[dict[str, Any], list[Chunk]]:
    """The `data` of a reply, and the parts of a large result that the client fetches afterwards."""
    rowtype = [_column(name, kind) for name, kind in outcome.columns]
    table = _plain(outcome.table, outcome.columns)
    data = {
        "parameters": [{"name": "TIMEZONE", "value": "Etc/UTC"}],
        "rowtype": rowtype,
        "total": table.num_rows,
        "returned": table.num_rows,
        "statementTypeId": outcome.kind,
    }
    chunks: list[Chunk] = []
    if arrow and outcome.kind == SELECT:
        starts = [0, *range(_FIRST_ROWS, table.num_rows, _CHUNK_ROWS)] if table.num_rows else []
        parts = [table.slice(at, end - at) for at, end in pairwise([*starts, table.num_rows])]
        batches = [_narrow(to_sf(_with_structs(part), rowtype)) for part in parts]
        streams = [Chunk(to_ipc(batch).to_pybytes(), batch.num_rows) for batch in batches]
        first, *chunks = streams or [Chunk(b"", 0)]
        data |= {"queryResultFormat": "arrow", "rowsetBase64": base64.b64encode(first.content).decode()}
    else:
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        data |= {"queryResultFormat": "json", "rowset": [[_cell(value) for value in row] for row in rows]}
    if outcome.affected is not None and outcome.kind in {INSERT, COPY}:
        data["stats"] = {"numRowsInserted": outcome.affected}
    return data | outcome.extra, chunks


def _column(name: str, kind: str) -> dict[str, Any]:
    plain = re.sub(r"\(.*\)", "", kind)
    scale = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    logical = "fixed" if scale else _TYPES.get(plain, "array" if kind.endswith("[]") else "object")
    text = logical in {"text", "variant", "array", "object"}
    precision = {"fixed": int(scale[1]) if scale else 38}.get(logical, 0)
    return {
        "name": name,
        "database": "",
        "schema": "",
        "table": "",
        "nullable": True,
        "type": logical,
        "byteLength": _LONGEST if text else None,
        "length": _LONGEST if text else None,
        "precision": precision if logical == "fixed" or logical.startswith("time") else None,
        "scale": int(scale[2]) if scale else 9 if logical.startswith("time") else 0 if logical == "fixed" else None,
        "collation": None,
    }


def _plain(table: pa.Table, columns: list[tuple[str, str]]) -> pa.Table:
    """Make of nested values JSON text and of small numbers the sizes the connector reads."""
    arrays = []
    for array, (_, kind) in zip(table.columns, columns, strict=True):
        if pa.types.is_nested(array.type):
            texts = [None if value is None else json.dumps(value, default=str) for value in array.to_pylist()]
            arrays.append(pa.array(texts, pa.string()))
        elif pa.types.is_integer(array.type):
            arrays.append(array.cast(pa.int64()))
        elif pa.types.is_timestamp(array.type):
            # Always UTC: DuckDB keeps no zone with a value.
            arrays.append(array.cast(pa.timestamp("us")))
        elif kind == "FLOAT":
            arrays.append(array.cast(pa.float64()))
        elif pa.types.is_null(array.type):
            arrays.append(array.cast(pa.string()))
        else:
            arrays.append(array)
    return pa.table(arrays, names=[name for name, _ in columns])


def _narrow(table: pa.Table) -> pa.Table:
    """Numbers as integers, as small as the chunk allows, as Snowflake sends them: no two chunks need be alike."""
    for place, (sent, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        if pa.types.is_decimal(sent.type):
            scaled = [None if value is None else int(value.scaleb(sent.type.scale)) for value in column.to_pylist()]
        elif pa.types.is_int64(sent.type):
            scaled = column.to_pylist()
        else:
            continue
        size = max((max(value, -1 - value).bit_length() for value in scaled if value is not None), default=0)
        kind = next((kind for kind in _INTEGERS if size < kind.bit_width), None)
        if kind:
            table = table.set_column(place, sent.with_type(kind), pa.array(scaled, kind))
    return table


def _with_structs(table: pa.Table) -> pa.Table:
    """Times as the connector reads them; fakesnow's own have no place for NULL."""
    arrays = [_struct(column) if pa.types.is_timestamp(column.type) else column for column in table.columns]
    return pa.table(arrays, names=table.column_names)


def _struct(times: pa.ChunkedArray) -> pa.StructArray:
    array = times.combine_chunks()
    micros = pc.fill_null(array.cast(pa.int64()), 0)
    seconds = pc.floor(pc.divide(micros.cast(pa.float64()), 1e6)).cast(pa.int64())
    nanos = pc.multiply(pc.subtract(micros, pc.multiply(seconds, 1_000_000)), 1000).cast(pa.int32())
    fields = [pa.field("epoch", pa.int64(), nullable=False), pa.field("fraction", pa.int32(), nullable=False)]
    return pa.StructArray.from_arrays([seconds, nanos], fields=fields, mask=array.is_null())


def _cell(value: Any) -> str | None:
    """A value as JSON results carry it: always text."""
    match value:
        case bool():
            return "true" if value else "false"
        case dt.datetime():
            return _seconds(value - (_EPOCH if value.tzinfo else _EPOCH.replace(tzinfo=None)))
        case dt.date():
            return str((value - _EPOCH.date()).days)
        case dt.time():
            return _seconds(dt.datetime.combine(_EPOCH, value, dt.UTC) - _EPOCH)
        case bytes():
            return value.hex().upper()
    return None if value is None else str(value)


def _seconds(span: dt.timedelta) -> str:
    whole, rest = divmod(abs(span), dt.timedelta(seconds=1))
    return f"{'-' if span < dt.timedelta(0) else ''}{whole}.{rest.microseconds * 1000:09d}"
