"""What a query can reach: one customer's rows, as many as allowed, and nothing through its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp, parse_one
from tests.ddl.ddl_samples import Row, atom, event, insert, stamp
from tests.ddl.template_samples import NOW, answer, loaded
from tests.thorough import examples

from snowledger_ddl import (
    CONTRACT_VIEWS,
    ParameterError,
    Template,
    TemplateError,
    apply,
    bound_parameters,
    checked_parameters,
    executable,
    load_templates,
    reserved_parameters,
)

HIDDEN = "beta knows"


NASTY = [
    "' OR 1=1 --",
    "'; DROP TABLE activities.raw_events; --",
    '" OR ""="',
    "$$ OR TRUE $$",
    "$customer",
    "$1",
    "?",
    "/* */ UNION SELECT * FROM activities.raw_events",
    "\\'; SELECT 1",
    "%",
    "_",
    "acme' --\n",
    "beta",
    "\u2019 OR \u20181\u2019=\u20181",
    "\uff07 OR 1=1",
    "b\u0435ta",
    "beta\u200b",
    "\x1b[2J",
    "read_csv('/etc/passwd')",
    "{{ customer }}",
    "${HOME}",
    "a" * 128,
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse in which acme and beta did the same things; nobody writes to it."""
    with duckdb.connect(tmp_path_factory.mktemp("shared") / "warehouse.duckdb") as opened:
        apply(opened, "duckdb")
        for customer, word in (("acme", "plain"), ("beta", HIDDEN)):
            insert(opened, *stream(customer, word))
        insert(opened, *(event(customer="nasty", feature_json={"tool": text}) for text in NASTY))
        yield opened


def stream(customer: str, word: str) -> Iterator[Row]:
    features = {"tool": word, "where": word, "message": word, "template": word, "query_hash": "ab" * 32}
    names = ("user_asked", "sql_executed", "sql_completed", "claude_responded")
    for number, name in enumerate((*names, "tool_called", "error_encountered", "artifact_created")):
        logged = event(customer=customer, activity=f"cdesk.{name}", feature_json=features, ts=stamp(number))
        yield logged | {"_session_id": word, "_query_tag": word}
    yield atom(subject=word) | {"customer": customer, "_session_id": word}


FORGETFUL = [
    "SELECT * FROM events WHERE $customer IS NOT NULL",
    'SELECT * FROM "EVENTS" WHERE $customer IS NOT NULL',
    "SELECT e.* FROM Events AS e WHERE $customer <> ''",
    "SELECT * FROM events WHERE customer = $customer OR TRUE",
    "SELECT * FROM events WHERE customer <> $customer OR TRUE",
    "WITH a AS (SELECT * FROM events) SELECT * FROM a WHERE $customer <> ''",
    "WITH events AS (SELECT * FROM events) SELECT * FROM events WHERE $customer <> ''",
    "WITH events AS (SELECT * FROM insight_atoms), b AS (SELECT * FROM events) SELECT * FROM b WHERE $customer <> ''",
    "WITH a AS (WITH events AS (FROM events) FROM events) SELECT * FROM a, events WHERE $customer <> ''",
    "SELECT * FROM (WITH events AS (SELECT 1 AS x) FROM events) AS a, events WHERE $customer <> ''",
    "WITH Events AS (FROM events), a AS (FROM EVENTS) FROM a JOIN events AS e ON TRUE WHERE $customer <> ''",
    "WITH a AS (SELECT customer FROM events UNION SELECT customer FROM artifacts) FROM a WHERE a.customer = $customer",
    "SELECT (SELECT MAX(CAST(feature_json AS VARCHAR)) FROM events) WHERE $customer <> ''",
    "SELECT ARRAY(SELECT customer FROM events) WHERE $customer <> ''",
    "SELECT * FROM insight_atoms WHERE EXISTS (FROM events AS e WHERE e.customer <> $customer) OR $customer <> ''",
    "SELECT * FROM (events JOIN insight_atoms ON TRUE) WHERE $customer <> ''",
    "SELECT * FROM events AS a JOIN events AS b ON TRUE LEFT JOIN artifacts ON TRUE WHERE $customer <> ''",
    "SELECT * FROM events AS a, LATERAL (SELECT * FROM events AS b WHERE b.ts = a.ts) AS c WHERE $customer <> ''",
    "SELECT * FROM events SEMI JOIN insight_atoms USING (customer) WHERE $customer <> ''",
    "SELECT * FROM events POSITIONAL JOIN artifacts WHERE $customer <> ''",
    "SELECT * FROM context_cache WHERE $customer <> '' UNION ALL BY NAME SELECT * FROM context_cache",
    "SELECT customer FROM events EXCEPT SELECT customer FROM events WHERE customer = $customer",
    "SELECT events FROM events WHERE $customer <> ''",
    "SELECT COLUMNS('c.*') FROM events WHERE $customer <> ''",
    "FROM events SELECT customer, feature_json WHERE $customer <> ''",
    "SELECT * FROM events AS e(x, y, customer) WHERE $customer <> ''",
    "SELECT $customer IN (SELECT customer FROM events), (SELECT LIST(DISTINCT customer) FROM events)",
    "SELECT /*+ */ * FROM events -- WHERE customer = 'acme'\nWHERE /* ' */ $customer <> ''",
]


@pytest.mark.parametrize("body", FORGETFUL)
def test_a_template_that_forgets_its_condition_still_shows_nothing_of_another_customer(
    tmp_path: Path, shared: duckdb.DuckDBPyConnection, body: str
) -> None:
    template = loaded(tmp_path, body)
    rows = answer(shared, template)
    assert "beta" not in str(rows)
    assert "plain" in str(rows) or "acme" in str(rows) or "EXCEPT" in body


REACHING = [
    "WITH RECURSIVE {f} AS (SELECT * FROM {f}) SELECT * FROM {f} WHERE $customer <> ''",
    "WITH RECURSIVE x AS (SELECT * FROM {f}), {f} AS (SELECT 1) SELECT * FROM x WHERE $customer <> ''",
    "WITH RECURSIVE {f} AS (SELECT * FROM {f} UNION ALL SELECT * FROM {f}) SELECT * FROM {f} WHERE $customer <> ''",
    "WITH {f} AS (SELECT * FROM {f}) SELECT * FROM {f} WHERE $customer <> ''",
    "WITH x AS (SELECT * FROM {f}), {f} AS (SELECT 1) SELECT * FROM x WHERE $customer <> ''",
    "WITH {F} AS (SELECT 1) SELECT * FROM {f} WHERE $customer <> ''",
    "SELECT * FROM (WITH {f} AS (SELECT 1) SELECT * FROM {f}) AS x, {f} WHERE $customer <> ''",
    "SELECT * FROM events WHERE $customer IN (WITH RECURSIVE {f} AS (FROM {f}) SELECT customer FROM {f})",
]


@pytest.mark.parametrize("body", REACHING)
@pytest.mark.parametrize("name", ["file", "duckdb_databases", "duckdb_views", "pg_tables", "sqlite_master"])
def test_a_cte_never_stands_for_a_file_or_a_table_of_the_catalog(
    tmp_path: Path, shared: duckdb.DuckDBPyConnection, body: str, name: str
) -> None:
    path = tmp_path / "secret.csv"
    path.write_text(f"customer,view_name\nbeta,{HIDDEN}\n", encoding="utf-8")
    quoted, folded = (f'"{path}"', f'"{path}"'.upper()) if name == "file" else (name, name.replace("k", "\u212a"))
    folder = tmp_path / "templates"
    folder.mkdir()
    template = loaded(folder, body.format(f=quoted, F=f'"{folded}"' if name != "file" else folded))
    try:
        rows = answer(shared, template)
    except TemplateError:
        return
    assert str(rows) == "[{'1': 1}]", rows


def test_every_cte_gets_a_name_of_its_own_and_keeps_its_alias(
    tmp_path: Path, shared: duckdb.DuckDBPyConnection
) -> None:
    body = """
        WITH a(n) AS (SELECT 1), "B" AS (WITH a AS (SELECT n + 1 AS m FROM a) SELECT a.m, b.m AS k FROM a, a AS b)
        SELECT A.n, b.*, (WITH c AS (SELECT b.k + 10 AS v) SELECT c.v FROM c) AS v, a AS whole FROM a, b
        WHERE $customer <> ''
    """
    template = loaded(tmp_path, body)
    assert answer(shared, template) == [{"n": 1, "m": 2, "k": 2, "v": 12, "whole": {"n": 1}}]
    tree = parse_one(executable(template), read="duckdb")
    names = [cte.alias for cte in tree.find_all(exp.CTE)]
    assert sorted(names) == sorted(set(names))
    assert all(re.fullmatch(r"cte_\d+_[abc]", name) for name in names)
    assert {table.name for table in tree.find_all(exp.Table)} == set(names)


@pytest.mark.parametrize("template", load_templates().templates.values(), ids=lambda template: template.name)
def test_each_of_ours_reads_nothing_but_contract_views_and_its_ctes(template: Template) -> None:
    for dialect in ("duckdb", "snowflake"):
        tree = parse_one(executable(template, dialect), read=dialect)
        ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
        views = [table for table in tree.find_all(exp.Table) if table.name not in ctes]
        assert all(name.lower().startswith("cte_") for name in ctes)
        for view in views:
            assert (view.name, view.db) in {(name, "activities" * (dialect == "duckdb")) for name in CONTRACT_VIEWS}
            narrowed = view.find_ancestor(exp.Select)
            assert narrowed is not None
            assert template.isolated_by in {bound.name for bound in narrowed.args["where"].find_all(exp.Placeholder)}


@pytest.mark.parametrize("template", load_templates().templates.values(), ids=lambda template: template.name)
def test_each_of_ours_shows_each_customer_its_own_alone(shared: duckdb.DuckDBPyConnection, template: Template) -> None:
    def told(customer: str, word: str) -> str:
        needed: dict[str, Any] = {"subject": word, "query_hash": "ab" * 32}
        params = {one.name: needed[one.name] for one in template.parameters if one.required}
        return str(answer(shared, template, customer=customer, **params))

    acmes, betas, nobodys = told("acme", "plain"), told("beta", HIDDEN), told("nobody", "plain")
    assert acmes != "[]"
    assert betas != "[]"
    assert "beta" not in acmes
    assert "acme" not in betas
    assert "plain" not in betas
    assert not any(word in nobodys for word in ("plain", "acme", "beta"))


def test_allowed_customers_are_seen_where_the_template_says_so_and_nowhere_else(
    tmp_path: Path, shared: duckdb.DuckDBPyConnection
) -> None:
    rows = answer(shared, "active_customers", customers=["acme", "beta"])
    assert [row["customer"] for row in rows] == ["acme", "beta"]
    every = loaded(tmp_path, "SELECT DISTINCT customer FROM events WHERE $customers IS NOT NULL", 'scope = "allowed"')
    assert {row["customer"] for row in answer(shared, every, customers=["beta"])} == {"beta"}
    assert answer(shared, every, customers=[]) == []
    own = loaded(tmp_path, "SELECT DISTINCT customer FROM events WHERE $customer IS NOT NULL")
    assert answer(shared, own, customers=["acme", "beta"]) == [{"customer": "acme"}]


@pytest.mark.parametrize("text", NASTY)
def test_whatever_a_parameter_says_is_data(shared: duckdb.DuckDBPyConnection, text: str) -> None:
    before = shared.execute("SELECT COUNT(*) FROM activities.raw_events").fetchone()
    [row] = answer(shared, "tool_latency", customer="nasty", tool=text)
    assert (row["tool"], row["calls"]) == (text, 1)
    assert answer(shared, "recent_events", activity=text) == []
    assert answer(shared, "activity_counts", activities=[text, text]) == []
    [between] = answer(shared, "time_between", from_activity=text)
    assert (between["from_activity"], between["begun"]) == (text, 0)
    assert shared.execute("SELECT COUNT(*) FROM activities.raw_events").fetchone() == before


@given(text=st.text(max_size=128))
@settings(max_examples=examples(20))
def test_any_text_is_refused_or_found_as_it_was_logged(shared: duckdb.DuckDBPyConnection, text: str) -> None:
    template = load_templates().templates["tool_latency"]
    try:
        rows = answer(shared, template, tool=text)
    except ParameterError:
        assert "\0" in text
        return
    assert rows == [] or text in {"", "plain"}


def test_a_name_that_only_the_runner_binds_cannot_be_sent() -> None:
    for name in ("customer", "customers", "now", "Customer", "customer "):
        with pytest.raises(ParameterError):
            checked_parameters(load_templates().templates["activity_counts"], {name: "beta"})


@pytest.mark.parametrize(
    "limit", ["", "LIMIT $n", "LIMIT 90000", "LIMIT $n OFFSET 0", "LIMIT 100%", "FETCH FIRST 90000 ROWS ONLY"]
)
def test_rows_are_capped_in_the_order_of_the_statement(tmp_path: Path, limit: str) -> None:
    matter = '[params.n]\ntype = "integer"\ndefault = 80000\ndescription = "Rows."\n'
    body = f"FROM numbers SELECT h, i WHERE $customer <> '' AND $n > 0 ORDER BY h DESC, i {limit}"
    template = loaded(tmp_path, body, 'row_limit = 5000\ntables = ["numbers"]\n' + matter)
    bound = bound_parameters(template, checked_parameters(template, {}))
    bound |= reserved_parameters(template, customer="acme", customers=["acme"], now=NOW)
    # As the uploader opens its file.
    with duckdb.connect(config={"preserve_insertion_order": False, "threads": 2}) as opened:
        opened.execute("CREATE TABLE numbers AS SELECT i, hash(i) % 1000 AS h FROM range(200000) AS r(i)")
        rows = opened.execute(executable(template), bound).fetchall()
        assert len(rows) == 5000
        every = opened.execute("SELECT h, i FROM numbers").fetchall()
        assert rows == sorted(every, key=lambda row: (-row[0], row[1]))[:5000]
        assert opened.execute(executable(template, row_cap=3), bound).fetchall() == rows[:3]


def test_a_limit_of_the_statement_below_the_cap_holds(shared: duckdb.DuckDBPyConnection) -> None:
    assert len(answer(shared, "recent_events", limit=2)) == 2
    assert len(answer(shared, "recent_events", limit=2, row_cap=1)) == 1
