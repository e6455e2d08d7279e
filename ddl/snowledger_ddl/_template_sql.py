"""A template's text as a warehouse executes it: each contract view narrowed to the customer, and the rows capped.

Every reading of a contract view becomes ``(SELECT * FROM schema.view WHERE customer = $customer)`` under the same
alias, so a statement that forgets its own condition still sees nothing of another customer. CTEs are renamed, so that
none can stand for anything else.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

from sqlglot import ErrorLevel, exp, parse_one
from sqlglot.errors import UnsupportedError

from ._errors import TemplateError
from ._template import Template, TemplateProblem
from ._template_check import Flaw, FlawError, contract_tables, flaws, parsed
from ._template_ctes import rename

_OWN_DIALECT = "duckdb"


def rendered(template: Template, dialect: str, row_cap: int, schema: str) -> str:
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
            _isolate(tree, template, schema)
            if dialect != _OWN_DIALECT and not has_own_text:
                _prepare_translation(tree)
            return _written(_capped(tree, row_cap), dialect, names | {template.isolated_by})
    except FlawError as error:
        wrong = [error.flaw]
    except RecursionError:
        wrong = [Flaw(0, "nested too deeply")]
    raise TemplateError(tuple(_problem(template, dialect, flaw, has_own_text=has_own_text) for flaw in wrong))


def _problem(template: Template, dialect: str, flaw: Flaw, *, has_own_text: bool) -> TemplateProblem:
    if has_own_text:
        source = template.source.removesuffix(".sql")
        return TemplateProblem(f"{source}.{dialect}.sql", flaw.line, flaw.reason)
    return TemplateProblem(template.source, template.text_line + max(flaw.line, 1) - 1, flaw.reason)


def _isolate(tree: exp.Query, template: Template, schema: str) -> None:
    for table in contract_tables(tree):
        customer = exp.column("customer")
        condition: exp.Expr
        if template.isolated_by == "customers":
            condition = exp.ArrayContains(this=exp.Placeholder(this="customers"), expression=customer)
        else:
            condition = exp.EQ(this=customer, expression=exp.Placeholder(this="customer"))
        view = exp.to_table(f"{schema}.{table.name.lower()}")
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
    # DuckDB keeps the order of a query in FROM that has a limit itself.
    return exp.Select(
        expressions=[exp.Star()],
        from_=exp.From(this=exp.Subquery(this=tree, alias=exp.TableAlias(this=exp.to_identifier("result")))),
        limit=exp.Limit(expression=exp.Literal.number(row_cap)),
    )


def _prepare_translation(tree: exp.Query) -> None:
    """Say in other words what sqlglot would lose on the way to Snowflake."""
    for cast in tree.find_all(exp.TryCast):
        cast.set("requires_string", value=True)  # it would become a plain CAST, which fails
    for interval in list(tree.find_all(exp.Interval)):
        if isinstance(interval.this, exp.Literal):
            continue
        # An interval of anything but a literal would be written without its value.
        sum_ = interval.parent
        if not isinstance(sum_, exp.Add | exp.Sub) or sum_.expression is not interval:
            raise FlawError(0, "an INTERVAL that is no literal can only be added to a time or subtracted from it")
        kind = exp.TimestampAdd if isinstance(sum_, exp.Add) else exp.TimestampSub
        sum_.replace(kind(this=sum_.this, expression=interval.this, unit=interval.args["unit"]))


def _written(tree: exp.Query, dialect: str, names: set[str]) -> str:
    try:
        text = tree.sql(dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        reason = f"cannot be translated for {dialect}: {error}"
        raise FlawError(0, reason) from None
    if dialect != _OWN_DIALECT:
        kept = {node.name for node in parse_one(text, read=dialect).find_all(exp.Placeholder)}
        if kept != names:
            lost = ", ".join(f"${name}" for name in sorted(names ^ kept))
            raise FlawError(0, f"cannot be translated for {dialect}: {lost} would be lost")
    return text
