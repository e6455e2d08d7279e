"""Kinds of settings: how a field is declared, and what its values must be."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ByteSize, Field
from pydantic_settings import NoDecode

from snowledger_queue import OPERATIONAL_CUSTOMER, InvalidEventError, check_customer

PREFIX = "SNOWLEDGER_"

_MAX_PORT = 65535

IDENTIFIERS = "letters, digits and _, no digit first, at most 255"
"""Names in Snowflake that need no quotes."""


def setting(variable: str, *synonyms: str, accepted: str, **options: Any) -> Any:
    """A field read from ``SNOWLEDGER_<variable>``, or else from a synonym; ``accepted`` is for its errors."""
    names = AliasChoices(PREFIX + variable, *synonyms)
    return Field(validation_alias=names, description=accepted, **options)


def _absolute(path: Path) -> Path:
    text = str(path)
    if "\0" in text or path == Path() or "?" in text:
        message = "not a path"  # what follows a ? DuckDB takes for options
        raise ValueError(message)
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _absolute_or_none(path: Path | None) -> Path | None:
    return None if path is None else _absolute(path)


def _database(path: Path) -> Path:
    if path.stem == "activities":
        message = "DuckDB names a database after its file, so readers could not tell it from the schema"
        raise ValueError(message)
    return path


def _customer(customer: str) -> str:
    try:
        check_customer(customer)
    except InvalidEventError as error:
        raise ValueError(error.problem) from None
    if customer == OPERATIONAL_CUSTOMER:
        message = "snowledger's own events have this customer"
        raise ValueError(message)
    return customer


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
        message = "not a plain identifier"
        raise ValueError(message)
    return name.upper()  # as Snowflake reads it without quotes


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        message = "not a number"
        raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueError
    return value


def _loopback(address: str | None) -> str | None:
    if address is not None and not re.fullmatch(r"(127\.0\.0\.1|\[::1\]|localhost):\d{1,5}", address):
        message = "not an address of this machine"
        raise ValueError(message)
    if address is not None and int(address.rpartition(":")[2]) > _MAX_PORT:
        message = "no such port"
        raise ValueError(message)
    return address


FilePath = Annotated[Path, AfterValidator(_absolute)]
OptionalPath = Annotated[Path | None, AfterValidator(_absolute_or_none)]
DatabasePath = Annotated[FilePath, AfterValidator(_database)]
CustomerId = Annotated[str, AfterValidator(_customer)]
CustomerIds = Annotated[frozenset[CustomerId], NoDecode, BeforeValidator(_split)]
Words = Annotated[frozenset[str], NoDecode, BeforeValidator(_split)]
Identifier = Annotated[str, AfterValidator(_identifier)]
OptionalIdentifier = Annotated[str | None, AfterValidator(lambda name: None if name is None else _identifier(name))]
LoopbackAddress = Annotated[str | None, AfterValidator(_loopback)]
"""Host and port that only this machine reaches."""
Word = BeforeValidator(_lower)
"""A choice of words, in any case."""
Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Bytes = Annotated[ByteSize, BeforeValidator(_no_boolean)]
