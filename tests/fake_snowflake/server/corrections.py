"""What fakesnow's translation of a statement gets wrong, put right before it begins."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp
from tests.fake_snowflake.server.functions import rewritten

Names = tuple[str, str, str]

# Snowflake keeps these for the optimizer and never checks them; DuckDB would.
_UNCHECKED = (exp.PrimaryKey, exp.ForeignKey, exp.Reference, exp.UniqueColumnConstraint)


@dataclass
class Facts:
    """What a statement can ask about its session."""

    user: str
    session_id: int
    role: str | None = None
    warehouse: str | None = None
    last_query_id: str | None = None
    # Temporary tables by their full names; DuckDB knows them by the last part alone.
    temporary: set[Names] = field(default_factory=set)

    def answer(self, function: str) -> str | None:
        """The value of a function such as CURRENT_USER.

        Raises:
            KeyError: it is another function.
        """
        return {
            "CURRENT_USER": self.user,
            "CURRENT_SESSION": str(self.session_id),
            "CURRENT_ROLE": self.role,
            "CURRENT_WAREHOUSE": self.warehouse,
            "CURRENT_ACCOUNT": "FAKE",
            "LAST_QUERY_ID": self.last_query_id,
        }[function]


def corrected(
    expression: exp.Expr, facts: Facts, database: str | None, schema: str | None, moment: dt.datetime
) -> exp.Expr:
    """A copy of a statement that fakesnow translates rightly; `moment` is the time that the statement will tell."""

    def full(table: exp.Table) -> Names:
        parts = [table.args.get("catalog"), table.args.get("db"), table.this]
        names = [part and (part.name if part.args.get("quoted") else part.name.upper()) for part in parts]
        return names[0] or database or "", names[1] or schema or "", names[2] or ""

    def change(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table) and full(node) in facts.temporary:
            node.set("catalog", None)
            node.set("db", None)
        if not isinstance(expression, exp.Create) and isinstance(node, exp.CurrentTimestamp):
            return _clock(moment, utc=bool(node.args.get("sysdate")))
        return rewritten(_told(node, facts))

    if _is_temporary(expression):
        facts.temporary.update(full(table) for table in [expression.find(exp.Table)] if table)
    changed = _changed(expression, change)
    if isinstance(expression, exp.Drop):
        facts.temporary.difference_update(full(table) for table in expression.find_all(exp.Table))
    if isinstance(changed, exp.Create):
        _drop_unchecked(changed)
    return changed


def _is_temporary(expression: exp.Expr) -> bool:
    properties = expression.args.get("properties")
    return isinstance(expression, exp.Create) and bool(properties and properties.find(exp.TemporaryProperty))


def _changed(expression: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """A changed copy, from the leaves up: a node that was put in place of another is not looked at again."""
    changed = expression.copy()
    for node in reversed(list(changed.walk())):
        other = change(node)
        if other is not node:
            node.replace(other)
    return changed


def _clock(moment: dt.datetime, *, utc: bool) -> exp.Expr:
    """DuckDB's clock stands still within a transaction, Snowflake's only within a statement."""
    if utc:
        return exp.cast(exp.Literal.string(moment.replace(tzinfo=None).isoformat(" ")), exp.DType.TIMESTAMPNTZ)
    return exp.cast(exp.Literal.string(moment.isoformat(" ")), exp.DType.TIMESTAMPTZ)


def _told(node: exp.Expr, facts: Facts) -> exp.Expr:
    if not isinstance(node, exp.Func):
        return node
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    try:
        value = facts.answer(name.upper())
    except KeyError:
        return node
    return exp.Null() if value is None else exp.Literal.string(value)


def _drop_unchecked(create: exp.Expr) -> None:
    for constraint in list(create.find_all(*_UNCHECKED, exp.PrimaryKeyColumnConstraint)):
        holder = constraint.parent
        if isinstance(constraint, exp.PrimaryKeyColumnConstraint):
            constraint.replace(exp.NotNullColumnConstraint())
        elif isinstance(holder, exp.Constraint | exp.ColumnConstraint):
            holder.pop()
        else:
            constraint.pop()
