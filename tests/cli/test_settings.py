"""Settings: which source wins, what a wrong value's message says, and what is refused."""

import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.cli_process import CONFIGURING, Cli

from snowledger.errors import SettingsError
from snowledger.pressure import pressure_limits
from snowledger.serve import uploader_command
from snowledger.settings import ServerSettings, Settings, load_settings, variables
from snowledger.snowflake_config import snowflake_config
from snowledger_queue import PressureLimits
from snowledger_uploader import SnowflakeConfig


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder and an environment without settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ, {**kept, "HOME": str(tmp_path)}, clear=True):
        yield


def write(content: str, path: str = "snowledger.toml") -> Path:
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def problem(**flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**flags)
    return str(caught.value)


def test_defaults_work_without_any_setting() -> None:
    settings = load_settings()
    assert settings.home.name == "snowledger"
    assert settings.home.is_relative_to(Path.home())
    assert settings.customer
    assert settings.allowed_customers == frozenset()
    assert settings.warehouse == "duckdb"
    assert settings.duckdb_path == settings.home / "warehouse.duckdb"
    assert settings.auto_uploader is True
    assert settings.backpressure_threshold_ms == 120_000
    assert settings.max_queue_bytes == 50 * 1024 * 1024
    assert settings.snow_connection is None
    assert settings.context_max_age_s == 300
    assert settings.context_refresh_s == 120
    assert settings.templates_dir is None
    assert settings.query_time_limit_s == 30
    assert settings.query_concurrency == 2
    assert settings.query_row_cap == 1_000_000
    assert settings.query_byte_cap == 256 * 1024 * 1024
    assert settings.artifact_max_age_days == 90
    assert settings.artifact_max_bytes == 5 * 1024**3
    assert settings.credits_per_hour_limit == 100
    assert pressure_limits(settings) == PressureLimits()


def test_flags_win_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    write('customer = "file"\n')
    assert load_settings().customer == "file"
    monkeypatch.setenv("SNOWLEDGER_CUSTOMER", "environment")
    assert load_settings().customer == "environment"
    assert load_settings(customer="flag").customer == "flag"
    assert load_settings(customer=None).customer == "environment"


@pytest.mark.parametrize(
    ("synonym", "field", "value", "expected"),
    [
        ("QUEUE_DIR", "home", "/var/queue", Path("/var/queue")),
        ("SNOW_CONNECTION", "snow_connection", "prod", "prod"),
        ("BACKPRESSURE_THRESHOLD", "backpressure_threshold_ms", "120000", 120_000),
        ("MAX_QUEUE_SIZE", "max_queue_bytes", "52428800", 52_428_800),
        ("SNOWLEDGER_MAX_QUEUE_BYTES", "max_queue_bytes", "1 MiB", 1024 * 1024),
    ],
)
def test_other_names_of_a_variable(
    synonym: str, field: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(synonym, value)
    assert getattr(load_settings(), field) == expected


def test_own_variable_wins_over_its_synonym_and_an_empty_one_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUEUE_DIR", "/synonym")
    monkeypatch.setenv("SNOWLEDGER_HOME", "/own")
    assert load_settings().home == Path("/own")
    monkeypatch.setenv("SNOWLEDGER_HOME", "")
    assert load_settings().home == Path("/synonym")


def test_file_is_named_or_here_or_the_users_and_only_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write('customer = "user"\nlog_level = "debug"\n', "config/snowledger/snowledger.toml")
    assert load_settings().customer == "user"
    write('customer = "here"\n')
    assert (load_settings().customer, load_settings().log_level) == ("here", "info")
    named = write('customer = "named"\n', "other.toml")
    monkeypatch.setenv("SNOWLEDGER_CONFIG", str(named))
    assert load_settings().customer == "named"


def test_paths_in_a_file_start_from_its_folder_and_others_from_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = 'home = "spool"\ntemplates_dir = "sql"\n'
    monkeypatch.setenv("SNOWLEDGER_CONFIG", str(write(content, "etc/settings.toml")))
    assert load_settings().home == tmp_path / "etc" / "spool"
    assert load_settings().templates_dir == tmp_path / "etc" / "sql"
    assert load_settings(home=Path("spool")).home == tmp_path / "spool"
    assert load_settings(home=Path("~/spool")).home == tmp_path / "spool"


def test_allowed_customers_is_a_list_in_the_file_and_commas_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('allowed_customers = ["a", "b"]\n')
    assert load_settings().allowed_customers == {"a", "b"}
    monkeypatch.setenv("SNOWLEDGER_ALLOWED_CUSTOMERS", " c , d,,")
    assert load_settings().allowed_customers == {"c", "d"}


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("SNOWLEDGER_WAREHOUSE", "mysql", "duckdb or snowflake"),
        ("SNOWLEDGER_CUSTOMER", "a/b", "printable characters without / and \\"),
        ("SNOWLEDGER_CUSTOMER", "x" * 256, "1 to 255"),
        ("SNOWLEDGER_ALLOWED_CUSTOMERS", "good,../bad", "customer ids separated by commas"),
        ("SNOWLEDGER_AUTO_UPLOADER", "maybe", "true or false"),
        ("SNOWLEDGER_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("SNOWLEDGER_LOG_FORMAT", "xml", "console or json"),
        ("SNOWLEDGER_MONITOR", "0.0.0.0:9465", "with the host 127.0.0.1, [::1] or localhost"),
        ("SNOWLEDGER_MONITOR", "127.0.0.1", "HOST:PORT"),
        ("SNOWLEDGER_MONITOR", "127.0.0.1:65536", "HOST:PORT"),
        ("SNOWLEDGER_MONITOR", "127.0.0.1.example:1", "HOST:PORT"),
        ("BACKPRESSURE_THRESHOLD", "2 minutes", "milliseconds, a whole number above 0"),
        ("BACKPRESSURE_THRESHOLD", "0", "milliseconds, a whole number above 0"),
        ("MAX_QUEUE_SIZE", "-1", "bytes above 0, such as 52428800 or 50MiB"),
        ("MAX_QUEUE_SIZE", "much", "bytes above 0, such as 52428800 or 50MiB"),
        ("SNOWLEDGER_BACKPRESSURE_EVENTS", "0", "events, a whole number above 0"),
        ("SNOWLEDGER_MIN_FREE_DISK", "-1", "bytes, such as 268435456 or 256MiB; 0 keeps no reserve"),
        ("SNOWLEDGER_CONTEXT_MAX_AGE_S", "0", "seconds, a number above 0"),
        ("SNOWLEDGER_CONTEXT_MAX_AGE_S", "inf", "seconds, a number above 0"),
        ("SNOWLEDGER_CONTEXT_REFRESH_S", "-1", "seconds, a number from 0"),
        ("SNOWLEDGER_CONTEXT_REFRESH_S", "often", "seconds, a number from 0"),
        ("SNOWLEDGER_HOME", "~nobody-has-this-name/spool", "the path of a folder"),
        ("SNOWLEDGER_TEMPLATES_DIR", "what?", "the path of a folder, without ?"),
        ("SNOWLEDGER_QUERY_TIME_LIMIT_S", "0", "seconds, a number above 0, at most 86400"),
        ("SNOWLEDGER_QUERY_TIME_LIMIT_S", "nan", "seconds, a number above 0"),
        ("SNOWLEDGER_QUERY_CONCURRENCY", "17", "a whole number from 1 to 16"),
        ("SNOWLEDGER_QUERY_CONCURRENCY", "1.5", "a whole number from 1 to 16"),
        ("SNOWLEDGER_QUERY_ROW_CAP", "0", "rows, a whole number from 1 to 1000000000"),
        ("SNOWLEDGER_QUERY_BYTE_CAP", "0", "bytes from 1 to 1TiB, such as 268435456 or 256MiB"),
        ("SNOWLEDGER_ARTIFACT_MAX_AGE_DAYS", "40000", "days, a number above 0, at most 36500"),
        ("SNOWLEDGER_ARTIFACT_MAX_BYTES", "2 PiB", "bytes from 1 to 1PiB, such as 5368709120 or 5GiB"),
        ("SNOWLEDGER_CREDITS_PER_HOUR_LIMIT", "-1", "credits, a number above 0"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_accepted(
    variable: str, value: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = problem()
    assert message.startswith(f"environment variable {variable}: '")
    assert value.rsplit(",", maxsplit=1)[-1][:90] in message
    assert accepted in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("customer = 5", "setting customer in {file}: 5 is not accepted"),
        ('customer = ""', "setting customer in {file}: '' is not accepted"),
        ('allowed_customers = ["a", 1]', "setting allowed_customers in {file}: 1 is not accepted"),
        ("backpressure_threshold_ms = true", "backpressure_threshold_ms in {file}: True is not accepted"),
        ("max_queue_bytes = [1]", "setting max_queue_bytes in {file}: [1] is not accepted"),
        ('home = ""', "setting home in {file}: '' is not accepted"),
        ('duckdb_path = "~nobody-has-this-name/x"', "setting duckdb_path in {file}: '~nobody-has-this-name/x' is not"),
        ('home = "a\\u0000b"', "setting home in {file}: "),
        ('warehuose = "duckdb"', "{file}: unknown setting warehuose (did you mean warehouse?)"),
        ('SNOWLEDGER_HOME = "/x"', "{file}: unknown setting SNOWLEDGER_HOME"),
        ("[server]", "{file}: unknown setting server"),
        ("customer = ", "the settings file {file} is not valid TOML: "),
    ],
)
def test_a_wrong_file_is_named_with_the_setting(line: str, message: str) -> None:
    file = write(f"{line}\n")
    assert message.format(file=file) in problem()


def test_a_wrong_flag_and_a_wrong_default_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(customer="a\tb").startswith("flag --customer: 'a\\tb' is not accepted")
    monkeypatch.setenv("LOGNAME", "DOMAIN\\user")
    assert "default of customer (set SNOWLEDGER_CUSTOMER)" in problem()


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWLEDGER_CONFIG", "nowhere.toml")
    assert problem() == "cannot read the settings file nowhere.toml: No such file or directory"


@pytest.mark.parametrize(
    ("value", "reason"), [("9" * 5000, "a whole number of thousands of digits"), ("[" * 5000, "nested too deeply")]
)
def test_what_the_parser_gives_up_on_is_not_toml(value: str, reason: str) -> None:
    file = write(f"query_concurrency = {value}\n")
    assert problem() == f"the settings file {file} is not valid TOML: {reason}"


def test_bytes_that_are_not_text_are_not_toml(tmp_path: Path) -> None:
    (tmp_path / "snowledger.toml").write_bytes(b"customer = '\xff'\n")
    assert "is not valid TOML" in problem()


def test_snowflake_is_accepted_until_it_is_needed() -> None:
    write('warehouse = "Snowflake"\n')
    settings = load_settings()
    assert settings.auto_uploader is False
    assert uploader_command(settings) is None
    with pytest.raises(SettingsError, match=r"set SNOW_CONNECTION to a name in connections\.toml"):
        snowflake_config(settings)


def test_snowflake_is_named_by_its_connection_and_has_names_that_need_no_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNOW_CONNECTION", "prod")
    monkeypatch.setenv("SNOWLEDGER_SNOWFLAKE_DATABASE", "team_logs")
    config = snowflake_config(load_settings(warehouse="snowflake"))
    assert config == SnowflakeConfig("prod", "TEAM_LOGS", "ACTIVITIES", "CLAUDE_LOGS_WH", "CLAUDE_LOGS_LOADER")
    assert snowflake_config(load_settings()) is None


def test_an_uploader_to_snowflake_that_is_asked_for_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWLEDGER_AUTO_UPLOADER", "1")
    assert uploader_command(load_settings(warehouse="snowflake")) is not None


def test_uploader_of_serve_gets_absolute_paths_and_can_be_turned_off(tmp_path: Path) -> None:
    command = uploader_command(load_settings(home="spool"))
    assert command is not None
    assert command[-6:] == (
        *("--home", str(tmp_path / "spool")),
        *("--duckdb-path", str(tmp_path / "spool" / "warehouse.duckdb")),
        *("--log-file", str(tmp_path / "spool" / "uploader.log")),
    )
    assert uploader_command(load_settings(auto_uploader=False)) is None


def test_what_the_uploader_of_serve_reads_of_the_environment_is_absolute(tmp_path: Path) -> None:
    write('templates_dir = "mine"\n', "conf/s.toml")
    os.environ |= {"SNOWLEDGER_CONFIG": "conf/s.toml"}
    assert uploader_command(load_settings()) is not None
    assert os.environ["SNOWLEDGER_CONFIG"] == str(tmp_path / "conf" / "s.toml")
    os.environ |= {"SNOWLEDGER_CONFIG": "~/conf/s.toml", "SNOWLEDGER_TEMPLATES_DIR": "theirs"}
    assert uploader_command(load_settings()) is not None
    assert os.environ["SNOWLEDGER_CONFIG"] == str(tmp_path / "conf" / "s.toml")
    assert os.environ["SNOWLEDGER_TEMPLATES_DIR"] == str(tmp_path / "theirs")


def test_a_variable_that_nothing_reads_is_warned_of_and_a_wrong_one_ends_with_3(cli: Cli) -> None:
    done = cli.run("status", code=1, SNOWLEDGER_CUSTOMR="x", SNOWLEDGER_DEBUG="0")
    warning, error = done.stderr.splitlines()
    assert warning == (
        "snowledger: warning: unknown variable SNOWLEDGER_CUSTOMR (did you mean SNOWLEDGER_CUSTOMER?); it is ignored"
    )
    assert error.startswith("snowledger: there is no spool at ")

    done = cli.run("status", code=3, SNOWLEDGER_LOG_LEVEL="loud")
    assert done.stderr == (
        "snowledger: environment variable SNOWLEDGER_LOG_LEVEL: 'loud' is not accepted; "
        "accepted: debug, info, warning or error\n"
    )


texts = st.text(alphabet=string.printable + "äß漢\x00\u2028", max_size=20)
toml_values: st.SearchStrategy[Any] = st.one_of(st.booleans(), st.integers(-10, 10**6), texts, st.lists(texts))


@given(field=st.sampled_from(sorted(Settings.model_fields)), value=toml_values, in_file=st.booleans())
def test_any_value_is_taken_or_refused_in_one_short_line(field: str, value: Any, in_file: bool) -> None:
    variable = variables(field)[0]
    text = str(value).replace("\0", "")
    changes = {} if in_file else {variable: text}
    quoted = {ord(c): f"\\u{ord(c):04x}" for c in map(chr, [*range(32), 34, 92, 127])}

    def toml(item: Any) -> str:
        if isinstance(item, list):
            return f"[{', '.join(map(toml, item))}]"
        return f'"{item.translate(quoted)}"' if isinstance(item, str) else str(item).lower()

    write(f"{field} = {toml(value)}\n" if in_file else "")
    with mock.patch.dict(os.environ, changes):
        try:
            settings = load_settings()
        except SettingsError as error:
            message = str(error)
            assert field in message if in_file else message.startswith(f"environment variable {variable}: ")
            assert message.isprintable()
            assert len(message) < 400
        else:
            assert settings.home.is_absolute()
            assert settings.duckdb_path.is_absolute()
            assert settings.max_queue_bytes > 0
            assert settings.backpressure_threshold_ms > 0


def test_serve_ignores_the_settings_file_of_the_folder_that_its_client_chose(tmp_path: Path) -> None:
    write('customer = "ceo"\n')
    assert load_settings().customer == "ceo"
    assert load_settings(ServerSettings).customer != "ceo"
    cli = Cli(tmp_path)
    cli.run("serve", "--no-uploader", SNOWLEDGER_CUSTOMER=None)
    write("customer = 5\n")
    cli.run("serve", "--no-uploader", SNOWLEDGER_CUSTOMER=None)


def test_the_products_own_customer_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWLEDGER_CUSTOMER", "snowledger")
    with pytest.raises(SettingsError, match="SNOWLEDGER_CUSTOMER: 'snowledger' is not accepted"):
        load_settings()
    monkeypatch.delenv("SNOWLEDGER_CUSTOMER")
    monkeypatch.setattr("getpass.getuser", lambda: "snowledger")
    assert load_settings().customer == "local"
