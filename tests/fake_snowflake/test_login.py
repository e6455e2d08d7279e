from pathlib import Path
from typing import Any

import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError
from tests.fake_snowflake.conftest import Connect
from tests.fake_snowflake.control import USER, FakeSnowflake

WHO = "SELECT CURRENT_USER()"
KNOWN, OTHER = "known", "other"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def private_bytes(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: rsa.RSAPrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form).decode()


def test_a_password_lets_in(connect: Connect) -> None:
    assert connect().value(WHO) == USER.upper()


def test_a_key_pair_lets_in_only_with_the_right_key(
    connect: Connect, fake_snowflake: FakeSnowflake, key: rsa.RSAPrivateKey
) -> None:
    fake_snowflake.allow(USER, public_key=public_pem(key))
    pair: dict[str, Any] = {"password": None, "authenticator": "SNOWFLAKE_JWT"}
    assert connect(**pair, private_key=private_bytes(key)).value(WHO) == USER.upper()
    with pytest.raises(DatabaseError) as refused:
        connect(**pair, private_key=private_bytes(rsa.generate_private_key(65537, 2048)))
    assert refused.value.errno == 390144


@pytest.mark.parametrize(("authenticator", "code"), [("PROGRAMMATIC_ACCESS_TOKEN", 394400), ("OAUTH", 390303)])
def test_a_token_lets_in_only_if_it_is_known(
    connect: Connect, fake_snowflake: FakeSnowflake, authenticator: str, code: int
) -> None:
    fake_snowflake.allow(USER, secret=KNOWN)
    assert connect(password=None, authenticator=authenticator, token=KNOWN).value(WHO) == USER.upper()
    with pytest.raises(DatabaseError) as refused:
        connect(password=None, authenticator=authenticator, token=OTHER)
    assert refused.value.errno == code


def test_a_wrong_password_is_refused_with_snowflakes_code(connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    with pytest.raises(DatabaseError) as refused:
        connect(password=OTHER)
    assert refused.value.errno == 390100
    assert fake_snowflake.requests() == [f"LOGIN {USER}"]


def test_an_expired_token_is_renewed_and_the_statement_sent_again(
    connect: Connect, fake_snowflake: FakeSnowflake
) -> None:
    client = connect()
    fake_snowflake.forget()
    fake_snowflake.expire_tokens()
    assert client.value("SELECT 1") == 1
    assert fake_snowflake.requests() == ["SELECT 1", "RENEW", "SELECT 1"]
    assert len(fake_snowflake.statements()) == 1


def test_a_token_that_cannot_be_renewed_is_told(connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    client = connect()
    fake_snowflake.expire_tokens()
    fake_snowflake.fault("^RENEW", "error", code=390114)
    client.fails("SELECT 1")
    assert client.value("SELECT 1") == 1


def test_the_session_keeps_its_state_when_its_token_is_renewed(connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    client = connect()
    for sql in ("CREATE DATABASE db", "CREATE TEMPORARY TABLE t (a INT)", "INSERT INTO t VALUES (1)"):
        client.rows(sql)
    fake_snowflake.expire_tokens()
    assert client.rows("SELECT a FROM t") == [(1,)]


def test_closing_ends_the_session(connect: Connect, fake_snowflake: FakeSnowflake) -> None:
    client = connect()
    assert fake_snowflake.sessions() == 1
    client.close()
    assert fake_snowflake.sessions() == 0


def test_a_connections_toml_leads_here(
    fake_snowflake: FakeSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_snowflake.write_connections_toml(tmp_path, "here", warehouse="wh")
    monkeypatch.setenv("SNOWFLAKE_HOME", str(tmp_path))
    plainly: dict[str, Any] = {"connection_name": "here", "enable_server_session_keep_alive_auto_detection": False}
    with snowflake.connector.connect(**plainly) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_WAREHOUSE()")
        assert cursor.fetchall() == [("wh",)]
