"""The templates that there are: those of the package, and those of a user's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from ._front_matter import FrontMatterError, is_name, read_template
from ._template import Catalogue, Template, TemplateProblem

TEMPLATE_DIALECTS = ("duckdb", "snowflake")
"""Dialects that a template can be executed in; its own text is in the first."""

MAX_FILE_BYTES = 64 * 1024
"""A statement of one screen has 2 KiB; whatever is far beyond is no template."""

_SUFFIX = ".sql"


class _File(NamedTuple):
    """A file as found: its name without suffix, where it is, and its bytes or why they cannot be had."""

    stem: str
    source: str
    content: bytes
    problem: str | None = None

    @property
    def name(self) -> str:
        """The template's."""
        return self.stem.partition(".")[0]


def load_templates(folder: Path | None = None, database: str | None = None) -> Catalogue:
    """The package's templates, and those of the user's folder, which replace one of ours only by ``override = true``.

    ``database`` is DuckDB's name for its file, if that is asked: ``database.table`` would be one of the schema main.
    Reads front matters only; whether the statements are any good is said by ``check_templates``. A bad file becomes a
    problem and the others load. Never raises.
    """
    ours, problems = _load(_own_files())
    theirs: dict[str, Template] = {}
    if folder is not None:
        try:
            files = list(_user_files(folder))
        except OSError as error:
            problems.append(TemplateProblem(str(folder), 0, f"the folder cannot be read: {error.strerror or error}"))
        else:
            theirs, more = _load(files, database)
            problems.extend(more)
    for name, template in theirs.items():
        if name in ours and not template.override:
            reason = f"snowledger has a template {name}; to replace it, write override = true, or choose another name"
            problems.append(TemplateProblem(template.source, 1, reason))
        else:
            ours[name] = template
    return Catalogue(dict(sorted(ours.items())), tuple(problems))


def _load(files: list[_File], database: str | None = None) -> tuple[dict[str, Template], list[TemplateProblem]]:
    problems: list[TemplateProblem] = []
    bases: list[tuple[_File, str]] = []
    texts: dict[str, dict[str, str]] = {}
    spoilt: set[str] = set()
    for file in files:
        try:
            name, dialect, content = _decoded(file)
        except FrontMatterError as error:
            problems.append(TemplateProblem(file.source, error.line, str(error)))
            spoilt.add(file.name)  # a template loads whole or not at all
            continue
        if dialect:
            texts.setdefault(name, {})[dialect] = content.rstrip()
        else:
            bases.append((file, content))

    templates: dict[str, Template] = {}
    for file, content in bases:
        if file.name not in spoilt:
            try:
                found = texts.get(file.name, {})
                templates[file.name] = read_template(file.name, content, file.source, found, database)
            except FrontMatterError as error:
                problems.append(TemplateProblem(file.source, error.line, str(error)))
    known = spoilt.union(file.name for file, _ in bases)
    problems += [
        TemplateProblem(file.source, 0, f"there is no {file.name}{_SUFFIX} beside it")
        for file in files
        if file.name not in known
    ]
    return templates, problems


def _decoded(file: _File) -> tuple[str, str, str]:
    """The template's name, the dialect ("" for its own), and the text. Raises ``FrontMatterError``."""
    if file.problem is not None:
        raise FrontMatterError(0, file.problem)
    name, _, dialect = file.stem.partition(".")
    others = TEMPLATE_DIALECTS[1:]
    if not is_name(name) or (dialect or others[0]) not in others:
        names = " or ".join(f"NAME.{other}{_SUFFIX}" for other in others)
        reason = f"a template's file is NAME{_SUFFIX} or {names}, NAME of lower-case letters, digits and _"
        raise FrontMatterError(0, reason)
    if len(file.content) > MAX_FILE_BYTES:
        raise FrontMatterError(0, f"the file is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FrontMatterError(file.content.count(b"\n", 0, error.start) + 1, "not UTF-8") from None
    if "\0" in text:
        raise FrontMatterError(text.count("\n", 0, text.index("\0")) + 1, "a NUL character")
    # One text, and so one query hash, whatever line ends a checkout has.
    return name, dialect, text.replace("\r\n", "\n")


def _own_files() -> list[_File]:
    folder = resources.files(__package__) / "templates"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(_SUFFIX)), key=lambda file: file.name)
    return [
        _File(file.name.removesuffix(_SUFFIX), f"{__package__}/templates/{file.name}", file.read_bytes())
        for file in files
    ]


def _user_files(folder: Path) -> Iterator[_File]:
    """Raises ``OSError`` when the folder cannot be listed."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        if name.endswith(_SUFFIX) and not name.startswith("."):
            yield _user_file(folder / name, name.removesuffix(_SUFFIX))


def _user_file(path: Path, stem: str) -> _File:
    source = os.fsencode(path).decode(errors="backslashreplace")
    try:
        # Links may lead anywhere, and opening a FIFO would wait for its writer.
        if not stat.S_ISREG(path.lstat().st_mode):
            return _File(stem, source, b"", "not a plain file: links, folders and devices are not read")
        with path.open("rb") as file:
            return _File(stem, source, file.read(MAX_FILE_BYTES + 1))
    except OSError as error:
        return _File(stem, source, b"", f"the file cannot be read: {error.strerror or error}")
