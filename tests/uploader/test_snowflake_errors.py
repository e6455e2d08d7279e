"""What Snowflake's errors mean: by their code, else by their SQLSTATE, and without anything secret."""

import pytest
from snowflake.connector.errors import DatabaseError, Error, InternalError, OperationalError, ProgrammingError

from snowledger_uploader import (
    AuthenticationNeededError,
    QueryFailedError,
    RowsRejectedError,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from snowledger_uploader._snowflake._codes import CODES
from snowledger_uploader._snowflake._errors import load_error, query_error, redacted, row_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseError("Incorrect username or password", 390100), AuthenticationNeededError),
        (DatabaseError("Failed to refresh session", 250001, "08001"), WarehouseUnavailableError),
        (InternalError("Invalid Snowflake response. EOF while parsing a value", 6), WarehouseUnavailableError),
        (ProgrammingError("Unknown error", 13), WarehouseUnavailableError),
        (ProgrammingError("Unknown error", 0), WarehouseUnavailableError),
        (ProgrammingError("Invalid data found during decompression", 100079, "22000"), WarehouseUnavailableError),
        (ProgrammingError("Invalid data found during decompression", 100076, "22000"), WarehouseUnavailableError),
        (ProgrammingError("Object 'X' does not exist", 2003, "42S02"), WarehouseRefusedError),
        (ProgrammingError("Insufficient privileges", 3001, "42501"), WarehouseRefusedError),
        (ProgrammingError("SQL execution canceled", 604, "57014"), WarehouseUnavailableError),
        (OperationalError("reset", 4), WarehouseUnavailableError),
        (ProgrammingError("a code nobody knows", 999999, "08006"), WarehouseUnavailableError),
        (ProgrammingError("a code nobody knows", 999999, "42000"), UploaderError),
        (ProgrammingError("a code nobody knows", 999999), UploaderError),
    ],
)
def test_a_code_says_whether_it_may_pass(error: Error, expected: type[UploaderError]) -> None:
    assert type(load_error(error)) is expected
    assert type(row_error(error)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseError("Failed to login: HTTP request failed after retries", 250001), WarehouseUnavailableError),
        (DatabaseError("Failed to login: Invalid Snowflake response. EOF", 250001), WarehouseUnavailableError),
        (DatabaseError("Failed to login: the key cannot be read", 250001), AuthenticationNeededError),
        (InternalError("Failed to parse TOML", 6), WarehouseRefusedError),
        (DatabaseError("Your password has expired", 390127, "08001"), AuthenticationNeededError),
        (DatabaseError("a code nobody knows", 394999, "08001"), AuthenticationNeededError),
        (DatabaseError("a code nobody knows", 999999, "28000"), AuthenticationNeededError),
        (DatabaseError("Role is not granted", 390189), WarehouseRefusedError),
        (DatabaseError("a code nobody knows", 999999, "08001"), WarehouseUnavailableError),
    ],
)
def test_a_refused_login_is_told_from_one_without_an_answer(error: Error, expected: type[UploaderError]) -> None:
    assert type(load_error(error, login=True)) is expected
    assert query_error(error, login=True).transient is (expected is WarehouseUnavailableError)


@pytest.mark.parametrize(("code", "state"), [(100069, "22P02"), (100082, None), (999999, "22018")])
def test_a_value_is_a_rows_fault_only_where_rows_are_read(code: int, state: str | None) -> None:
    error = ProgrammingError("Error parsing JSON: {", code, state)
    assert type(row_error(error)) is RowsRejectedError
    assert type(load_error(error)) is UploaderError
    assert type(query_error(error)) is QueryFailedError


def test_every_code_of_the_table_says_what_it_means() -> None:
    for code, (raised, meaning, hint) in CODES.items():
        said = str(load_error(ProgrammingError("words", code)))
        assert issubclass(raised, UploaderError)
        assert meaning in said
        assert hint in said
        # Who has to act is told what to do; the rest passes by itself or is a fault of ours.
        assert hint or raised is WarehouseUnavailableError or code in {2, 1003}


@pytest.mark.parametrize(
    "message",
    [
        "Failed to parse TOML at line 3\n3 | password = canary",
        'cannot use password="canary"',
        "token: canary is not valid",
        "private_key = canary",
        "GET https://host/path?token=canary&x=1 failed",
        "Authorization: Bearer canary",
        "token: Bearer canary",
        "refresh_token=canary",
        "client_secret=canary",
        'password = "my canary pw"',
        "private_key_file_pwd=canary",
        "passcode canary",
        "the assertion eyJhbGciOi.canary is not valid",
        '{"token":"canary"}',
        "cannot reach https://user:canary@proxy:80/",
        "X-Goog-Signature=canary",
    ],
)
def test_secrets_are_left_out(message: str) -> None:
    error = ProgrammingError(message, 7)
    assert "canary" not in redacted(error) + str(load_error(error)) + str(query_error(error))


def test_a_long_message_is_cut_and_keeps_its_code() -> None:
    assert len(redacted(ProgrammingError("x" * 10_000, 1003))) < 400
    assert redacted(ProgrammingError("x" * 10_000, 1003)).endswith("… [001003]")


def test_a_query_hears_neither_the_connectors_words_nor_its_own_statement() -> None:
    for code in (*CODES, 100038):
        said = str(query_error(ProgrammingError("Numeric value 'canary' is not recognized", code, "22018")))
        assert "canary" not in said
