"""``snowledger templates``: the questions that can be asked, and what is wrong with a user's own.

Of the JSON of ``list`` the keys are stable: name, answers, scope (own or allowed: whose events it reads), row_limit,
parameters (JSON Schema of each, by name), required, source.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .errors import CommandError, ExitCode
from .terminal import count, printable

if TYPE_CHECKING:
    from snowledger_ddl import Catalogue, Parameter, Template

app = typer.Typer(no_args_is_help=True, help="See which queries there are, and check your own.")


@app.command("list")
def list_templates(as_json: options.Json = False) -> None:
    """List the templates: name, parameters (required ones first, others in brackets), what each answers.

    With --json each line is an object.

    Try it: snowledger templates list
    """
    catalogue = _catalogue()
    width = max(map(len, catalogue.templates), default=0)
    for template in catalogue.templates.values():
        if as_json:
            typer.echo(json.dumps(_as_object(template)))
            continue
        typer.echo(printable(f"{template.name:<{width}}  {template.answers}"))
        names = [one.name if one.required else f"[{one.name}]" for one in _required_first(template)]
        if names:
            typer.echo(f"{'':<{width}}  {' '.join(names)}")
    if catalogue.problems:
        what = count(len(catalogue.problems), "problem")
        typer.echo(f"{what} in other files; see snowledger templates check", err=True)


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="The template's name.")]) -> None:
    """Show what a template answers, its parameters, an example and its SQL.

    Try it: snowledger templates show activity_counts
    """
    template = find_template(_catalogue(), name)
    typer.echo(printable(f"{template.name}: {template.answers}"))
    typer.echo(f"\nReads     events of {_SCOPES[template.scope]}")
    typer.echo(f"Gives     at most {count(template.row_limit, 'row')}")
    typer.echo(printable(f"File      {template.source}"))
    if template.parameters:
        typer.echo("\nParameters")
        width = max(len(one.name) for one in template.parameters)
        for parameter in _required_first(template):
            typer.echo(printable(f"  {parameter.name:<{width}}  {parameter.description}"))
            typer.echo(printable(f"  {'':<{width}}  {_accepted(parameter)}"))
    typer.echo(f"\nTry it\n  {_command(template)}")
    for dialect, text in {"": template.text, **template.dialect_texts}.items():
        typer.echo(f"\nSQL{' for ' * bool(dialect)}{dialect}")
        for line in text.splitlines():
            typer.echo(printable(f"  {line}").rstrip())


@app.command("check")
def check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Your templates. Default: SNOWLEDGER_TEMPLATES_DIR.")
    ] = None,
) -> None:
    """Check snowledger's templates and yours: front matter, parameters, and that the SQL may be run.

    Every problem is a line FILE:LINE: REASON; exit code 1 when there is one. A template with a problem is not
    run; the others are.

    Try it: snowledger templates check
    """
    from snowledger_ddl import check_templates

    catalogue = _catalogue(folder)
    problems = [*catalogue.problems, *check_templates(catalogue)]
    for problem in problems:
        typer.echo(printable(str(problem)))
    bad = {problem.file for problem in problems}
    good = sum(_files(template).isdisjoint(bad) for template in catalogue.templates.values())
    typer.echo(f"{count(good, 'template')} good, {count(len(problems), 'problem')}")
    if problems:
        raise typer.Exit(ExitCode.FAILED)


def find_template(catalogue: Catalogue, name: str) -> Template:
    """The template of this name.

    Raises:
        CommandError: there is none; with what is wrong with the file, or which may have been meant.
    """
    import difflib

    template = catalogue.templates.get(name)
    if template is not None:
        return template
    shown = ascii(name[:64])
    problem = next((one for one in catalogue.problems if Path(one.file).name.split(".")[0] == name), None)
    if problem is not None:
        raise CommandError(f"template {shown} cannot be used: {problem}")
    close = difflib.get_close_matches(name[:64], catalogue.templates, 1)
    hint = f"did you mean {close[0]}?" if close else "see snowledger templates list"
    raise CommandError(f"there is no template {shown}; {hint}")


_SCOPES = {"own": "your own customer", "allowed": "your own customer and the allowed ones"}


def _catalogue(folder: Path | None = None) -> Catalogue:
    from snowledger_ddl import load_templates

    from .settings import load_settings

    settings = load_settings()
    return load_templates(folder or settings.templates_dir, settings.duckdb_database)


def _required_first(template: Template) -> list[Parameter]:
    return sorted(template.parameters, key=lambda parameter: not parameter.required)


def _files(template: Template) -> set[str]:
    """Its own file and those of other dialects."""
    base = template.source.removesuffix(".sql")
    return {template.source, *(f"{base}.{dialect}.sql" for dialect in template.dialect_texts)}


def _as_object(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "answers": template.answers,
        "scope": template.scope,
        "row_limit": template.row_limit,
        "parameters": {parameter.name: parameter.json_schema() for parameter in template.parameters},
        "required": [parameter.name for parameter in template.parameters if parameter.required],
        "source": template.source,
    }


def _accepted(parameter: Parameter) -> str:
    """What it takes, and what it is without."""
    schema = parameter.json_schema()
    # The bounds that JSON Schema cannot say are at the end of the description.
    described, marker, bounds = str(schema.get("description", "")).rpartition(" Accepted: ")
    if marker and described:
        found = [bounds.rstrip(".")]
    elif parameter.items is not None:
        found = [
            f"a list of {parameter.items}, between commas",
            f"at most {count(int(str(schema['maxItems'])), 'item')}",
        ]
    elif parameter.values:
        found = [f"one of {', '.join(parameter.values)}"]
    else:
        found = [parameter.type]
        limits = (("from", "minimum"), ("to", "maximum"), ("of at most", "maxLength"))
        found += [f"{word} {schema[key]}" for word, key in limits if key in schema]
        found += ["characters"] if "maxLength" in schema else []
        found = [" ".join(found)]
    default = "required" if parameter.required else f"default {json.dumps(schema['default'], ensure_ascii=False)}"
    return f"{', '.join(found)}; {default}"


def _command(template: Template) -> str:
    words = ["snowledger", "query", template.name]
    for name, value in template.example.items():
        words.append(f"{name}={_written(value)}")
    return shlex.join(words)


def _written(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        plain = all(not isinstance(one, str) or (one and one == one.strip(" ,[") and "," not in one) for one in value)
        return ",".join(map(_written, value)) if plain else json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value)
