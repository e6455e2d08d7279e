"""Which CTE a name in FROM means, and names for CTEs that nothing else has.

Where a warehouse finds no CTE of a name, it looks for a table, a view of its catalog or a file. So every CTE and all
that reads it are renamed: where the warehouse and we disagree about what a name means, it finds no table at all.

Needs sqlglot, so it is imported only where a template is checked or run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_plain(name: str) -> bool:
    """Whether it is a name that every warehouse folds to lower case alike, and that can be no path."""
    return _PLAIN.fullmatch(name) is not None


def cte_of(table: exp.Table) -> exp.CTE | None:
    """The CTE that the name means where it stands: of an outer query, or before it in the same WITH."""
    if table.args.get("db") or table.args.get("catalog"):
        return None
    name = table.name.lower()
    child: exp.Expr = table
    while (parent := child.parent) is not None:
        clause = parent if isinstance(parent, exp.With) else parent.args.get("with_")
        if clause is not None:
            for cte in clause.expressions:
                if cte is child:
                    break
                if cte.alias.lower() == name:
                    return cte  # type: ignore[no-any-return]
        # Above a WITH comes the query that it belongs to, whose CTEs were just looked at.
        child = parent.parent or parent if isinstance(parent, exp.With) else parent
    return None


def wrong_names(node: exp.Expr) -> Iterator[str]:
    """What is wrong with a WITH or with the alias of a CTE, a query or a table."""
    if isinstance(node, exp.With):
        if node.args.get("recursive"):
            yield "WITH RECURSIVE is not allowed"
        names = [cte.alias for cte in node.expressions]
        folded = [name.lower() for name in names]
        yield from (f"{name} is defined twice" for n, name in enumerate(names) if name.lower() in folded[:n])
    elif isinstance(node, exp.TableAlias) and (isinstance(node.parent, exp.CTE) or node.this is not None):
        name = node.name
        if not is_plain(name):
            yield f"{name} is no plain name: letters from A to Z, digits and _ make one, and no digit begins it"


def rename(tree: exp.Query) -> None:
    """Give every CTE a name of its own. Readings of it keep its old name as alias, so columns are found as before."""
    readings = [(table, cte) for table in tree.find_all(exp.Table) if (cte := cte_of(table)) is not None]
    names = {id(cte): f"cte_{n}_{cte.alias.lower()}" for n, cte in enumerate(tree.find_all(exp.CTE, bfs=False), 1)}
    for table, cte in readings:
        alias = table.args.get("alias") or exp.TableAlias()
        if alias.this is None:
            alias.set("this", table.this.copy())
        table.set("alias", alias)
        table.set("this", exp.to_identifier(names[id(cte)]))
    for cte in tree.find_all(exp.CTE):
        cte.args["alias"].set("this", exp.to_identifier(names[id(cte)]))
