"""COPY INTO a table, with Snowflake's checks and its memory of what was loaded."""

import pathlib
import re
from typing import Any, NamedTuple

import duckdb
from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.errors import SnowflakeError, missing, syntax_error, unsupported
from tests.fake_snowflake.server.options import NAME, Path, Value, flag, statement_options
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.sessions import Session
from tests.fake_snowflake.server.stage import check_stage, md5

_COLUMNS = [
    "file",
    "status",
    "rows_parsed",
    "rows_loaded",
    "error_limit",
    "errors_seen",
    "first_error",
    "first_error_line",
    "first_error_character",
    "first_error_column_name",
]
_STAGE = r"(?:'@[^']*'|@[^\s();]+)"
_COPY = re.compile(
    rf"""(?P<table>{NAME})\s*(?P<columns>\([^)]*\))?\s*FROM\s*
    (?:(?P<stage>{_STAGE})|\(\s*(?P<select>SELECT\b.*?\bFROM\s+)(?P<selected>{_STAGE})(?P<tail>(?:[^()]|\([^()]*\))*)\))
    (?P<options>.*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_KNOWN = {"FILES", "FILE_FORMAT", "FORCE", "ON_ERROR", "PATTERN", "PURGE"}
# The names under which a transformation knows a staged file's content, and ours.
_STAGED = {
    r"\$1": "_staged_1",
    r"METADATA\$FILENAME": "_staged_file",
    r"METADATA\$FILE_ROW_NUMBER": "_staged_row",
}
_LONGEST = 134_217_728  # bytes in one line: what a VARIANT holds at most


class File(NamedTuple):
    name: str
    path: pathlib.Path
    # Of the content: a file that has changed is another one.
    mark: str


def copy_into(session: Session, text: str) -> Outcome:
    """Load staged files of JSON lines into a table.

    Raises:
        SnowflakeError: the statement, the stage or a file's content is wrong; nothing is loaded then.
    """
    match = _COPY.fullmatch(text)
    if not match:
        raise syntax_error(f"unexpected COPY INTO {text[:80]}")
    options = statement_options(match["options"])
    _check(session, options)
    at = session.stage(match["stage"] or match["selected"])
    files = _chosen(session, at.stage, at.path, options)
    table = session.names(match["table"])
    known = _known(session, table)
    force = flag(options.get("FORCE"), default=False)
    fresh = [file for file in files if force or (file.name, file.mark) not in known]
    counts = {file: _verified(session, file, table) for file in fresh}

    def step() -> None:
        for file in fresh:
            _insert(session, file, match)
        _remember(session, table, fresh)

    session.write(step)
    if flag(options.get("PURGE"), default=False):
        for file in fresh:
            file.path.unlink()
    return _outcome(at.stage[2], files, counts)


def forget_loads(session: Session, table: tuple[str, str, str]) -> None:
    """A truncated table may be loaded from the same files again."""
    session.duck.execute(f"DELETE FROM {loads_of(table[0])} WHERE loaded_into = ?", [_identity(session, table)])


def _check(session: Session, options: dict[str, Value]) -> None:
    if unknown := sorted(options.keys() - _KNOWN):
        raise unsupported(f"COPY with {unknown[0]}")
    on_error = str(options.get("ON_ERROR", "ABORT_STATEMENT")).upper()
    if on_error != "ABORT_STATEMENT":
        raise unsupported(f"COPY with ON_ERROR = {on_error}")
    format_ = options.get("FILE_FORMAT")
    given = format_ if isinstance(format_, dict) else {"FORMAT_NAME": str(format_)} if format_ else {}
    if name := given.get("FORMAT_NAME"):
        names = session.names(str(name))
        if names not in session.account.formats:
            raise missing("File format", str(name))
        given = {**session.account.formats[names], **given}
    if str(given.get("TYPE", "CSV")).upper() != "JSON":
        raise unsupported("COPY of another format than JSON")
    if flag(given.get("STRIP_OUTER_ARRAY"), default=False):
        raise unsupported("COPY with STRIP_OUTER_ARRAY")


def _chosen(session: Session, stage: tuple[str, str, str], path: str, options: dict[str, Value]) -> list[File]:
    check_stage(session, stage)
    there = dict(session.account.stages.files(Path(stage, path)))
    listed, pattern = options.get("FILES"), str(options.get("PATTERN", ".*"))
    if listed is None:
        wanted = [name for name in there if re.fullmatch(pattern, name)]
    else:
        wanted = [path.rstrip("/") + "/" + name if path else name for name in listed]
    for name in wanted:
        if name not in there:
            message = f"Remote file '{stage[2].lower()}/{name}' was not found."
            raise SnowflakeError(91016, f"{message} There are several potential causes.", "22000")
    return [File(name, there[name], md5(there[name])) for name in wanted]


def _verified(session: Session, file: File, table: tuple[str, str, str]) -> int:
    """Count a file's rows; one that is not JSON or is poisoned fails the statement."""
    poison = session.account.faults.poison
    count = "count(*), count(*) FILTER (regexp_matches(json::VARCHAR, ?))" if poison else "count(*), 0"
    try:
        row = session.reader.execute(f"SELECT {count} FROM {_lines(file.path)}", [poison] if poison else []).fetchone()
    except duckdb.InvalidInputException as error:
        raise _bad_row(file, table, str(error)) from error
    if not row or row[1]:
        raise _bad_row(file, table, "poisoned")
    return int(row[0])


def _bad_row(file: File, table: tuple[str, str, str], detail: str) -> SnowflakeError:
    line = re.search(r"line (\d+)", detail)
    number = line[1] if line else "1"
    return SnowflakeError(
        100069,
        f"Error parsing JSON: incomplete object value\n  File '{file.name}', line {number}, character 1\n"
        f'  Row {number}, column "{table[2]}"["$1":1]\n'
        "  If you would like to continue loading when an error is encountered, use other values such as 'SKIP_FILE' or"
        " 'CONTINUE' for the ON_ERROR option.",
        "22P02",
    )


def _lines(path: pathlib.Path) -> str:
    escaped = str(path).replace("'", "''")
    gzip = "gzip" if path.name.endswith(".gz") else "none"
    return (
        f"read_json_objects('{escaped}', format = 'newline_delimited', compression = '{gzip}',"
        f" maximum_object_size = {_LONGEST})"
    )


def _insert(session: Session, file: File, match: re.Match[str]) -> None:
    columns = match["columns"] or ""
    name = file.name.replace("'", "''")
    source = (
        f"SELECT json AS _staged_1, '{name}' AS _staged_file, row_number() OVER () AS _staged_row"
        f" FROM {_lines(file.path)}"
    )
    session.duck.execute(f"CREATE OR REPLACE TEMPORARY TABLE _staged AS {source}")
    if match["stage"]:
        session.run(f"INSERT INTO {match['table']} {columns} SELECT _staged_1 FROM _staged")
        return
    select = match["select"]
    for theirs, ours in _STAGED.items():
        select = re.sub(theirs, ours, select, flags=re.IGNORECASE)
    tail = re.sub(r"\(\s*FILE_FORMAT.*?\)", "", match["tail"], flags=re.IGNORECASE | re.DOTALL)
    session.run(f"INSERT INTO {match['table']} {columns} {select} _staged {tail}")


def loads_of(database: str) -> str:
    """The table that remembers loads; it takes part in the transactions of those who load."""
    return f'"{database}"._fs_information_schema._loaded_files'


def _identity(session: Session, table: tuple[str, str, str]) -> str:
    """What is the table's own and nobody else's after CREATE OR REPLACE."""
    temporary = table in session.facts.temporary
    found = session.duck.execute(
        "SELECT table_oid FROM duckdb_tables() WHERE table_name = ? AND "
        + ("temporary" if temporary else "database_name = ? AND schema_name = ?"),
        [table[2]] if temporary else [table[2], table[0], table[1]],
    ).fetchone()
    if not found:
        raise missing("Table", ".".join(table))
    return f"{session.number}.{found[0]}" if temporary else str(found[0])


def _known(session: Session, table: tuple[str, str, str]) -> set[tuple[str, str]]:
    identity = _identity(session, table)
    rows = session.duck.execute(
        f"SELECT file, mark FROM {loads_of(table[0])} WHERE loaded_into = ?", [identity]
    ).fetchall()
    return {(row[0], row[1]) for row in rows}


def _remember(session: Session, table: tuple[str, str, str], files: list[File]) -> None:
    identity = _identity(session, table)
    for file in files:
        session.duck.execute(f"INSERT INTO {loads_of(table[0])} VALUES (?, ?, ?)", [identity, file.name, file.mark])


def _outcome(stage: str, files: list[File], counts: dict[File, int]) -> Outcome:
    if not files:
        return Outcome.status(results.COPY, "Copy executed with 0 files processed.")
    rows: list[list[Any]] = []
    for file in files:
        name = f"{stage.lower()}/{file.name}"
        if file in counts:
            rows.append([name, "LOADED", counts[file], counts[file], 1, 0, None, None, None, None])
        else:
            rows.append([name, "LOAD_SKIPPED", 0, 0, 1, 1, "File was loaded before.", None, None, None])
    outcome = Outcome.of_rows(results.COPY, _COLUMNS, rows)
    outcome.affected = sum(counts.values())
    return outcome
