"""A template's text as a warehouse executes it: each contract view narrowed to the customer, and the rows capped.

Every reading of a contract view becomes ``(SELECT * FROM schema.view WHERE customer = $customer)`` under the same
alias, so a statement that forgets its own condition still sees nothing of another customer. CTEs are renamed, so that
none can stand for anything else.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError, UnsupportedError

from ._errors import TemplateError
from ._template import Template, TemplateProblem, shortened
from ._template_check import Flaw, FlawError, contract_tables, flaws, parsed
from ._template_ctes import rename
from ._template_snowflake import adapt, check_names, translate

_OWN_DIALECT = "duckdb"

_SCHEMAS = {"duckdb": "activities.", "snowflake": ""}
"""Where the contract views are; on Snowflake in the session's schema, whose name is configured."""


def rendered(template: Template, dialect: str, row_cap: int) -> str:
    """See ``executable``."""
    text = template.dialect_texts.get(dialect)
    has_own_text = text is not None
    text = template.text if text is None else text
    try:
        tree = parsed(text, dialect if has_own_text else _OWN_DIALECT)
        wrong = flaws(tree, template, text)
        if not wrong:
            names = {node.name for node in tree.find_all(exp.Placeholder)}
            rename(tree)
            if dialect != _OWN_DIALECT:
                if not has_own_text:
                    translate(tree)
                adapt(tree, template)
            _isolate(tree, template, dialect)
            return _written(_capped(tree, row_cap), dialect, names | {template.isolated_by})
    except FlawError as error:
        wrong = [error.flaw]
    except RecursionError:
        wrong = [Flaw(0, "nested too deeply")]
    raise TemplateError(tuple(_problem(template, dialect, flaw, has_own_text=has_own_text) for flaw in wrong))


def _problem(template: Template, dialect: str, flaw: Flaw, *, has_own_text: bool) -> TemplateProblem:
    reason = shortened(flaw.reason)
    if has_own_text:
        source = template.source.removesuffix(".sql")
        return TemplateProblem(f"{source}.{dialect}.sql", flaw.line, reason)
    return TemplateProblem(template.source, template.text_line + max(flaw.line, 1) - 1, reason)


def _isolate(tree: exp.Query, template: Template, dialect: str) -> None:
    for table in contract_tables(tree):
        customer, bound = exp.column("customer"), exp.Placeholder(this=template.isolated_by)
        condition: exp.Expr
        if template.isolated_by == "customer":
            condition = exp.EQ(this=customer, expression=bound)
        elif dialect == _OWN_DIALECT:
            condition = exp.ArrayContains(this=bound, expression=customer)
        else:
            # A list with at least the customer who asks; unlike an array it lets Snowflake pass over partitions.
            condition = exp.In(this=customer, expressions=[bound])
        view = exp.to_table(f"{_SCHEMAS[dialect]}{table.name.lower()}")
        narrowed = exp.Subquery(
            this=exp.Select(expressions=[exp.Star()], from_=exp.From(this=view), where=exp.Where(this=condition)),
            alias=table.args.get("alias") or exp.TableAlias(this=table.this.copy()),
            joins=table.args.get("joins"),
        )
        table.replace(narrowed)


def _capped(tree: exp.Query, row_cap: int) -> exp.Query:
    """The tree with at most so many rows, still in its own order."""
    limit = tree.args.get("limit")
    if limit is None:
        tree.set("limit", exp.Limit(expression=exp.Literal.number(row_cap)))
        return tree
    count = limit.expression
    if (
        [key for key, value in limit.args.items() if value] == ["expression"]
        and isinstance(count, exp.Literal)
        and count.is_int
    ):
        count.replace(exp.Literal.number(min(row_cap, int(count.this))))
        return tree
    # DuckDB keeps the order of a query in FROM that has a limit itself; Snowflake does not promise to.
    return exp.Select(
        expressions=[exp.Star()],
        from_=exp.From(this=exp.Subquery(this=tree, alias=exp.TableAlias(this=exp.to_identifier("result")))),
        limit=exp.Limit(expression=exp.Literal.number(row_cap)),
    )


def _written(tree: exp.Query, dialect: str, names: set[str]) -> str:
    try:
        text = tree.sql(dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
        if dialect != _OWN_DIALECT:
            check_names(text, names)
    except (SqlglotError, ValueError) as error:  # the latter for a path into JSON that the dialect does not have
        # A parser's error tells a place in the text that was written, which nobody has seen.
        reason = error if isinstance(error, UnsupportedError) else "it has no such syntax"
        raise FlawError(0, f"cannot be translated for {dialect}: {reason}") from None
    return text
