"""Finds out what kind of statement was sent, and has it done."""

import re
from typing import Any

from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.bindings import rows_of
from tests.fake_snowflake.server.catalog import SHOWN
from tests.fake_snowflake.server.cursor import Cursor
from tests.fake_snowflake.server.errors import SnowflakeError, cancelled, unsupported
from tests.fake_snowflake.server.jobs import Job
from tests.fake_snowflake.server.load import copy_into
from tests.fake_snowflake.server.objects import OBJECT_HANDLERS, Handler
from tests.fake_snowflake.server.options import NAME, statement_options
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.sessions import Session, parsed
from tests.fake_snowflake.server.stage import check_stage, put_data, put_target

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|//[^\n]*(?:\n|$)|/\*.*?\*/)+", re.DOTALL)
# What is neither done here nor by fakesnow is recorded and succeeds, if it belongs to these.
_DONE_BY_FAKESNOW = r"(?:(?:TEMP|TEMPORARY|TRANSIENT|SECURE|RECURSIVE)\s+)*(?:TABLE|VIEW|SCHEMA|DATABASE|SEQUENCE)\b"
_ALTERED_BY_FAKESNOW = (
    r"(?:ADD\s+(?!(?:SEARCH|CONSTRAINT|PRIMARY|UNIQUE|FOREIGN|ROW|TAG)\b)|DROP\s+COLUMN\b|RENAME\b"
    r"|ALTER\s+(?:COLUMN\s+)?\S+\s+(?:SET\s+DATA\s+TYPE|TYPE|SET\s+NOT|DROP\s+NOT)\b)"
)
_RECORDED = re.compile(
    rf"""(?:
    (?:CREATE(?:\s+OR\s+(?:REPLACE|ALTER))?|DROP)\s+(?!OR\b)(?!{_DONE_BY_FAKESNOW})
    | ALTER\s+(?!TABLE\s+(?:IF\s+EXISTS\s+)?{NAME}\s+{_ALTERED_BY_FAKESNOW})
    | (?:GRANT|REVOKE|COMMENT|EXECUTE|CALL|UNDROP)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def execute(job: Job, bindings: dict[str, dict[str, Any]] | None) -> Outcome:
    """Do a statement.

    Raises:
        Exception: it fails; `errors.translated` makes a reply of it.
    """
    sql = _COMMENTS.sub("", job.sql, count=1) if _COMMENTS.match(job.sql) else job.sql
    sql = sql.strip().rstrip(";").rstrip()
    outcome = _done(job, sql, bindings)
    job.session.account.catalog.note(sql, job.session.database, job.session.schema)
    return outcome


def _done(job: Job, sql: str, bindings: dict[str, dict[str, Any]] | None) -> Outcome:
    session = job.session
    if re.match(r"PUT\b", sql, re.IGNORECASE):
        return _put(session, sql, job.address)
    for pattern, handler in _HANDLERS:
        if match := pattern.fullmatch(sql):
            return handler(session, match)
    if _RECORDED.match(sql):
        job.record.executed = False
        return session.define(lambda: Outcome.status(results.DDL))
    return session.execute(sql, rows_of(bindings))


def describe(job: Job) -> Outcome:
    """Tell the columns of a statement's result, without doing it."""
    session = job.session
    return session.transactions.read(lambda: Cursor(session.connection, session.facts).describe(parsed(job.sql)))


def _show(session: Session, match: re.Match[str]) -> Outcome:
    if of_account := SHOWN.fullmatch(match[0]):
        return session.account.catalog.of_account(of_account)
    return session.account.catalog.with_comments(session.execute(match[0]))


def _put(session: Session, sql: str, address: str) -> Outcome:
    at = session.stage(put_target(sql))
    check_stage(session, at.stage)
    outcome = Outcome.status(results.SESSION)
    outcome.extra = put_data(sql, session.account.stages.key(at), address)
    return outcome


def _list(session: Session, match: re.Match[str]) -> Outcome:
    at = session.stage(match["stage"])
    check_stage(session, at.stage)
    return session.account.stages.listed(at, match["pattern"])


def _remove(session: Session, match: re.Match[str]) -> Outcome:
    at = session.stage(match["stage"])
    check_stage(session, at.stage)
    return session.account.stages.removed(at, match["pattern"])


def _begin(session: Session, match: re.Match[str]) -> Outcome:
    session.transactions.begin(match["name"])
    return Outcome.status(results.TRANSACTION)


def _commit(session: Session, _: re.Match[str]) -> Outcome:
    session.transactions.commit()
    return Outcome.status(results.TRANSACTION)


def _rollback(session: Session, _: re.Match[str]) -> Outcome:
    session.transactions.rollback()
    return Outcome.status(results.TRANSACTION)


def _show_transactions(session: Session, _: re.Match[str]) -> Outcome:
    rows = [
        [found.number, other.facts.user, other.number, found.name, found.started, "running", 0]
        for other in session.account.everybody()
        if (found := other.transactions).open and other.facts.user == session.facts.user
    ]
    columns = ["id", "user", "session", "name", "started_on", "state", "scope"]
    return Outcome.of_rows(results.SHOW, columns, rows)


def _abort_transaction(session: Session, match: re.Match[str]) -> Outcome:
    """Roll back a transaction of any session of the user's, and stop the statement that runs in it."""
    number = int(match["number"])
    for other in session.account.everybody():
        if other.transactions.open and other.transactions.number == number:
            if other.job:
                other.job.stop(cancelled())
            other.transactions.rollback()
            return Outcome.of_rows(results.SELECT, ["SYSTEM$ABORT_TRANSACTION"], [[f"Transaction {number} aborted."]])
    raise SnowflakeError(625, f"Transaction {number} is not running.", "57014")


def _set_parameters(session: Session, match: re.Match[str]) -> Outcome:
    settings = {name: str(value) for name, value in statement_options(match["settings"]).items()}
    session.parameters |= settings
    if settings.get("AUTOCOMMIT", "").lower() == "true":
        session.transactions.commit()
    return Outcome.status(results.SESSION)


def _unset_parameters(session: Session, match: re.Match[str]) -> Outcome:
    for name in re.split(r"[\s,]+", match["names"].strip()):
        session.parameters.pop(name.upper(), None)
    return Outcome.status(results.SESSION)


def _use(session: Session, match: re.Match[str]) -> Outcome:
    name = match["name"].strip('"') if match["name"].startswith('"') else match["name"].upper()
    if match["kind"].upper() == "ROLE":
        session.facts.role = name
    elif match["kind"].upper() == "WAREHOUSE":
        session.facts.warehouse = name
    return Outcome.status(results.SESSION)


def _wait(session: Session, match: re.Match[str]) -> Outcome:
    unit = {"MILLISECONDS": 0.001, "MINUTES": 60.0}.get((match["unit"] or "").upper(), 1.0)
    if session.job:
        session.job.wait(float(match["amount"]) * unit)
    return Outcome.of_rows(results.SELECT, ["SYSTEM$WAIT"], [[f"waited {match['amount']} seconds"]])


def _cancel(session: Session, match: re.Match[str]) -> Outcome:
    job = session.account.jobs.by_query(match["query"])
    done = job is not None and job.stop(cancelled())
    return Outcome.of_rows(
        results.SELECT, ["SYSTEM$CANCEL_QUERY"], [["query terminated." if done else "Query already completed."]]
    )


def _not_here(_: Session, match: re.Match[str]) -> Outcome:
    raise unsupported(match[0])


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_AT_STAGE = r"(?P<stage>'@[^']*'|@\S+)(?:\s+PATTERN\s*=\s*'(?P<pattern>[^']*)')?"
_HANDLERS: list[tuple[re.Pattern[str], Handler]] = [
    (_pattern(r"(?:BEGIN|START)(?:\s+(?:WORK|TRANSACTION))?(?:\s+NAME\s+(?P<name>\S+))?"), _begin),
    (_pattern(r"COMMIT(?:\s+WORK)?"), _commit),
    (_pattern(r"ROLLBACK(?:\s+WORK)?"), _rollback),
    (_pattern(r"ALTER\s+SESSION\s+SET\s+(?P<settings>.*)"), _set_parameters),
    (_pattern(r"ALTER\s+SESSION\s+UNSET\s+(?P<names>.*)"), _unset_parameters),
    (_pattern(rf"USE\s+(?P<kind>ROLE|WAREHOUSE|SECONDARY\s+ROLES)\s+(?P<name>{NAME})"), _use),
    (_pattern(r"SHOW\s+TRANSACTIONS"), _show_transactions),
    (_pattern(r"SHOW\s+.*"), _show),
    (_pattern(rf"(?:LIST|LS)\s+{_AT_STAGE}"), _list),
    (_pattern(rf"(?:REMOVE|RM)\s+{_AT_STAGE}"), _remove),
    (_pattern(r"COPY\s+INTO\s+(?!@|')(?P<rest>.*)"), lambda session, match: copy_into(session, match["rest"])),
    *OBJECT_HANDLERS,
    (
        _pattern(r"(?:SELECT|CALL)\s+SYSTEM\$WAIT\(\s*(?P<amount>[\d.]+)\s*(?:,\s*'(?P<unit>\w+)'\s*)?\)"),
        _wait,
    ),
    (_pattern(r"SELECT\s+SYSTEM\$CANCEL_QUERY\(\s*'(?P<query>[^']*)'\s*\)"), _cancel),
    (_pattern(r"SELECT\s+SYSTEM\$ABORT_TRANSACTION\(\s*'?(?P<number>\d+)'?\s*\)"), _abort_transaction),
    (_pattern(r"(?:(?:SELECT|CALL)\s+SYSTEM\$\w+|GET\s+@|COPY\s+INTO\s+@|COPY\s+INTO\s+'@).*"), _not_here),
]
