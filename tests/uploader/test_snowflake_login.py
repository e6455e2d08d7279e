"""Logging in to Snowflake: what is accepted, what is asked of the operator, and what nobody gets to see."""

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.snowflake_samples import CONFIG, opened
from tests.uploader.uploader_samples import ORIGIN, batch_of, sample_lines

from snowledger_queue import Spool
from snowledger_uploader import (
    AuthenticationNeededError,
    SnowflakeConfig,
    SnowflakeWarehouse,
    UploaderError,
    WarehouseRefusedError,
    WarehouseUnavailableError,
)
from snowledger_uploader._snowflake import _login, _session

__all__ = ["ready_snowflake"]

CANARY = "canary-5b1f"
TOKEN = "right-one"  # noqa: S105


@pytest.fixture
def home(ready_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_session, "ATTEMPTS", 1)
    emptied(ready_snowflake, tmp_path / "home", monkeypatch)
    return tmp_path / "home"


def logins(fake: FakeSnowflake) -> int:
    return sum(request.startswith("LOGIN") for request in fake.requests())


async def refusal(spool: Spool, config: SnowflakeConfig = CONFIG) -> UploaderError:
    with pytest.raises(UploaderError) as caught:
        await SnowflakeWarehouse(config, spool, ORIGIN).open()
    return caught.value


async def test_a_wrong_password_needs_an_operator_and_is_not_tried_again_soon(
    ready_snowflake: FakeSnowflake, home: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_snowflake.write_connections_toml(home, password=CANARY)
    warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    for _ in range(3):
        with pytest.raises(AuthenticationNeededError, match=r"mend the connection's entry in connections\.toml"):
            await warehouse.open()
    assert logins(ready_snowflake) == 1
    ready_snowflake.write_connections_toml(home)
    monkeypatch.setattr(_login, "RETRY_LOGIN_S", 0.0)
    monkeypatch.setattr(warehouse._login, "_retry_at", 0.0)
    await warehouse.open()
    await warehouse.close()


@pytest.mark.parametrize("code", [394_304, 390_189])
async def test_no_refused_login_is_tried_again_soon_whatever_its_code_and_by_whom(
    code: int, ready_snowflake: FakeSnowflake, home: Path
) -> None:
    assert home.is_dir()
    ready_snowflake.fault("^LOGIN", "error", times=100, code=code, message="no")
    login = _login.Login(CONFIG)
    refused: list[UploaderError] = []

    async def attempt() -> None:
        with pytest.raises(WarehouseRefusedError) as caught:
            await login.session("cdesk_00000000")
        refused.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(attempt)
    await attempt()
    assert len(refused) == 5
    assert logins(ready_snowflake) == 1


async def test_a_session_that_cannot_be_renewed_is_no_wrong_password(
    ready_snowflake: FakeSnowflake, home: Path, spool: Spool, tmp_path: Path
) -> None:
    assert home.is_dir()
    async with opened(spool) as warehouse:
        await warehouse.rest()
        ready_snowflake.expire_tokens()
        ready_snowflake.fault("^RENEW", "error", times=3, code=390_114, message="Authentication token has expired.")
        with pytest.raises(WarehouseUnavailableError):
            await warehouse.load(batch_of(tmp_path, sample_lines(2)))
        await warehouse.open()
        assert (await warehouse.load(batch_of(tmp_path, sample_lines(2)))).inserted == 2


async def test_a_session_has_the_loaders_role_alone(
    ready_snowflake: FakeSnowflake, home: Path, spool: Spool, tmp_path: Path
) -> None:
    assert home.exists()
    async with opened(spool) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(1)))
    assert [found for found in ready_snowflake.requests() if found.startswith("LOGIN")] == [
        "LOGIN loader SECONDARY ROLES NONE"
    ]


async def test_an_expired_token_is_renewed_without_anybody_noticing(
    ready_snowflake: FakeSnowflake, home: Path, spool: Spool, tmp_path: Path
) -> None:
    assert home.is_dir()
    async with opened(spool) as warehouse:
        ready_snowflake.expire_tokens()
        assert (await warehouse.load(batch_of(tmp_path, sample_lines(2)))).inserted == 2


async def test_a_key_pair_is_accepted(ready_snowflake: FakeSnowflake, home: Path, spool: Spool) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = home / "key.p8"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    ready_snowflake.allow("service", public_key=public)
    entry: dict[str, Any] = {
        "user": "service",
        "password": None,
        "authenticator": "SNOWFLAKE_JWT",
        "private_key_file": str(path),
    }
    ready_snowflake.write_connections_toml(home, **entry)
    async with opened(spool):
        pass


@pytest.mark.parametrize("kind", ["PROGRAMMATIC_ACCESS_TOKEN", "OAUTH"])
async def test_a_token_is_accepted_and_a_wrong_one_is_not(
    kind: str, ready_snowflake: FakeSnowflake, home: Path, spool: Spool
) -> None:
    ready_snowflake.allow("service", secret=TOKEN)
    entry: dict[str, Any] = {"user": "service", "password": None, "authenticator": kind}
    ready_snowflake.write_connections_toml(home, **entry, token=TOKEN)
    async with opened(spool):
        pass
    ready_snowflake.write_connections_toml(home, **entry, token=CANARY)
    assert isinstance(await refusal(spool), AuthenticationNeededError)


async def test_a_connection_that_is_not_there_is_named(home: Path, spool: Spool) -> None:
    assert home.is_dir()
    error = await refusal(spool, SnowflakeConfig("nosuch", "A", "B", "C", "D"))
    assert type(error) is WarehouseRefusedError
    assert "nosuch" in str(error)


async def test_no_answer_to_a_login_may_pass(ready_snowflake: FakeSnowflake, home: Path, spool: Spool) -> None:
    ready_snowflake.fault("LOGIN", "503")
    assert isinstance(await refusal(spool), WarehouseUnavailableError)
    ready_snowflake.write_connections_toml(home, port=1)
    assert isinstance(await refusal(spool), WarehouseUnavailableError)


async def test_no_secret_is_in_what_is_said(
    ready_snowflake: FakeSnowflake, home: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entries: tuple[dict[str, Any], ...] = (
        {"password": CANARY},
        {"password": None, "authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": CANARY},
        {"password": None, "authenticator": "OAUTH", "token": CANARY},
        {"password": None, "authenticator": "SNOWFLAKE_JWT", "private_key": CANARY},
        {"password": CANARY, "authenticator": CANARY[:6]},
        {"password": CANARY, "port": 1},
    )
    said = []
    for entry in entries:
        ready_snowflake.write_connections_toml(home, **entry)
        said.append(str(await refusal(spool)))
    (home / "connections.toml").write_text(f'[fake]\naccount = "fake"\npassword = "{CANARY}\n')
    said.append(str(await refusal(spool)))
    assert len(set(said)) > 3
    assert CANARY not in "\n".join([*said, caplog.text])


async def test_a_password_is_warned_about_once(
    ready_snowflake: FakeSnowflake,
    home: Path,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ready_snowflake.write_connections_toml(home)
    monkeypatch.setattr(
        "snowflake.connector.config_manager.CONFIG_MANAGER", {"connections": {"fake": {"password": "x"}}}
    )
    warehouse = SnowflakeWarehouse(CONFIG, spool, ORIGIN)
    for _ in range(2):
        await warehouse.open()
        await warehouse.close()
    warnings = [record.message for record in caplog.records if record.name.startswith("snowledger")]
    assert len(warnings) == 1
    assert "use a key pair" in warnings[0]
