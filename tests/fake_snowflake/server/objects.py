"""Statements about objects that fakesnow does not take as they are: their options, and what it forgets."""

import re
from collections.abc import Callable

import sqlglot
from sqlglot import exp
from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.dynamic_tables import view_of
from tests.fake_snowflake.server.functions import create_functions
from tests.fake_snowflake.server.load import forget_loads, loads_of
from tests.fake_snowflake.server.options import NAME, identifier, statement_options
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.sessions import Session

Handler = Callable[[Session, re.Match[str]], Outcome]

_CREATE = r"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+|TRANSIENT\s+)*"
_UNLESS = rf"\s+(?P<unless>IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})"
_DROP = rf"\s+(?P<if>IF\s+EXISTS\s+)?(?P<name>{NAME})(?:\s+(?:CASCADE|RESTRICT))?"
_STAGES = "_fs_global._fs_information_schema._fs_stages"


def _create_database(session: Session, match: re.Match[str]) -> Outcome:
    """Make it with its PUBLIC schema, which becomes the session's."""
    database = identifier(match["name"])
    if match["replace"]:
        _detach(session, database)
    outcome = session.execute(f"CREATE DATABASE {match['unless'] or ''}{match['name']}")
    session.duck.execute(
        f"CREATE TABLE IF NOT EXISTS {loads_of(database)} (loaded_into VARCHAR, file VARCHAR, mark VARCHAR)"
    )
    create_functions(session.duck, database)
    session.execute(f"CREATE SCHEMA IF NOT EXISTS {match['name']}.PUBLIC")
    return outcome


def _drop_database(session: Session, match: re.Match[str]) -> Outcome:
    database = identifier(match["name"])
    return session.define(lambda: _detach(session, database, "" if match["if"] is None else "IF EXISTS "))


def _detach(session: Session, database: str, condition: str = "IF EXISTS ") -> Outcome:
    if session.database == database:
        session.duck.execute("USE _fs_global.main")
        session.connection.database = None
        session.connection.database_set = session.connection.schema_set = False
    session.duck.execute(f'DETACH DATABASE {condition}"{database}"')
    _forget_stages(session, database)
    return Outcome.status(results.DDL, f"{database} successfully dropped.")


def _create_schema(session: Session, match: re.Match[str]) -> Outcome:
    if match["replace"]:
        _forget_stages(session, *session.names(f"{match['name']}.x")[:2])
        session.execute(f"DROP SCHEMA IF EXISTS {match['name']}")
    return session.execute(f"CREATE SCHEMA {match['unless'] or ''}{match['name']}")


def _drop_schema(session: Session, match: re.Match[str]) -> Outcome:
    outcome = session.execute(f"DROP SCHEMA {match['if'] or ''}{match['name']}")
    _forget_stages(session, *session.names(f"{match['name']}.x")[:2])
    return outcome


def _create_stage(session: Session, match: re.Match[str]) -> Outcome:
    statement_options(match["options"])
    names = session.names(match["name"])
    if match["replace"]:
        session.account.stages.empty(names)
    return session.execute(f"CREATE {match['replace'] or ''}STAGE {match['unless'] or ''}{_quoted(names)}")


def _drop_stage(session: Session, match: re.Match[str]) -> Outcome:
    names = session.names(match["name"])
    return session.define(lambda: _forget_stages(session, *names))


def _forget_stages(session: Session, *names: str) -> Outcome:
    """Drop a stage, or all stages of a schema or a database."""
    columns = ("database_name", "schema_name", "name")[: len(names)]
    condition = " AND ".join(f"{column} = ?" for column in columns)
    session.duck.execute(f"DELETE FROM {_STAGES} WHERE {condition}", list(names))
    session.account.stages.empty(names)
    return Outcome.status(results.DDL, f"{names[-1]} successfully dropped.")


def _create_format(session: Session, match: re.Match[str]) -> Outcome:
    options = statement_options(match["options"])
    names = session.names(match["name"])
    kind = str(options.get("TYPE", "CSV"))
    outcome = session.execute(
        f"CREATE {match['replace'] or ''}FILE FORMAT {match['unless'] or ''}{_quoted(names)} TYPE = {kind}"
    )
    if match["replace"] or names not in session.account.formats:
        session.account.formats[names] = options
    return outcome


def _create_or_alter_table(session: Session, match: re.Match[str]) -> Outcome:
    """Create a table, or add the columns that it lacks; others are left as they are."""
    sql = f"CREATE TABLE IF NOT EXISTS {match['name']} {match['rest']}"
    outcome = session.execute(sql)
    create = sqlglot.parse_one(sql, read="snowflake")
    for column in create.find_all(exp.ColumnDef):
        declared = exp.ColumnDef(this=column.this, kind=column.args["kind"]).sql("snowflake")
        session.execute(f"ALTER TABLE {match['name']} ADD COLUMN IF NOT EXISTS {declared}")
    return outcome


def _create_dynamic_table(session: Session, match: re.Match[str]) -> Outcome:
    return session.execute(view_of(match[0]) or match[0])


def _drop_dynamic_table(session: Session, match: re.Match[str]) -> Outcome:
    return session.execute(f"DROP VIEW {match['if'] or ''}{match['name']}")


def _truncate(session: Session, match: re.Match[str]) -> Outcome:
    outcome = session.execute(f"TRUNCATE TABLE {match['name']}")
    forget_loads(session, session.names(match["name"]))
    return outcome


def _quoted(names: tuple[str, str, str]) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


OBJECT_HANDLERS: list[tuple[re.Pattern[str], Handler]] = [
    (_pattern(rf"{_CREATE}DATABASE{_UNLESS}(?P<options>.*)"), _create_database),
    (_pattern(rf"DROP\s+DATABASE{_DROP}"), _drop_database),
    (_pattern(rf"{_CREATE}SCHEMA{_UNLESS}(?P<options>.*)"), _create_schema),
    (_pattern(rf"DROP\s+SCHEMA{_DROP}"), _drop_schema),
    (_pattern(rf"{_CREATE}STAGE{_UNLESS}(?P<options>.*)"), _create_stage),
    (_pattern(rf"DROP\s+STAGE{_DROP}"), _drop_stage),
    (_pattern(rf"{_CREATE}FILE\s+FORMAT{_UNLESS}(?P<options>.*)"), _create_format),
    (_pattern(rf"CREATE\s+OR\s+ALTER\s+TABLE\s+(?P<name>{NAME})\s*(?P<rest>.*)"), _create_or_alter_table),
    (_pattern(rf"{_CREATE}DYNAMIC\s+TABLE\s.*"), _create_dynamic_table),
    (_pattern(rf"DROP\s+DYNAMIC\s+TABLE{_DROP}"), _drop_dynamic_table),
    (_pattern(rf"TRUNCATE\s+(?:TABLE\s+)?(?:IF\s+EXISTS\s+)?(?P<name>{NAME})"), _truncate),
]
