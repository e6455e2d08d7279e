"""Where the server listens: addresses, what systemd hands over, certificates; and one line for what cannot be."""

import datetime as dt
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cli.cli_process import Cli
from tests.http.http_server import MODERN, HttpServer, call

from snowledger_server import HttpAddress, ListenError
from snowledger_server._http._address import listen, shown
from snowledger_server._http._tls import tls_context


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_addresses() -> None:
    assert HttpAddress.parse("127.0.0.1:8787") == ("127.0.0.1", 8787)
    assert HttpAddress.parse("localhost:0") == ("localhost", 0)
    assert HttpAddress.parse("[::1]:65535") == ("::1", 65535)
    assert HttpAddress.parse("systemd") is None
    for wrong in (
        "",
        "8787",
        ":8787",
        "localhost",
        "localhost:",
        "::1:80",
        "a:b:1",
        "a:65536",
        "a:-1",
        "a:\u0661",
        "[::1]",
    ):
        with pytest.raises(ListenError, match="accepted: HOST:PORT"):
            HttpAddress.parse(wrong)


def test_an_address_that_cannot_be_had_is_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for host, port, reason in (
            ("127.0.0.1", taken.getsockname()[1], "Address already in use"),
            ("192.0.2.1", 0, "Cannot assign requested address"),
            ("no.such.name.invalid", 80, ""),
            (f"{'a' * 70}.example", 80, "the name is not one"),
        ):
            with pytest.raises(ListenError, match=f"cannot listen on {host}:{port}: {reason}"):
                listen(HttpAddress(host, port))


def test_all_addresses_of_a_name_have_one_port_and_ipv6_is_shown_in_brackets() -> None:
    for name in ("localhost", "::1"):
        listeners = listen(HttpAddress(name, 0))
        found = {place[4][0] for place in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)}
        assert {listener.getsockname()[0] for listener in listeners} == found
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert shown(listeners[-1]).rpartition(":")[0] in {"127.0.0.1", "[::1]"}
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_without_a_socket_from_systemd_it_says_what_is_needed(environment: dict[str, str]) -> None:
    with pytest.raises(ListenError, match="handed over no socket"):
        listen(None, environment)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    rubbish, none = tmp_path / "rubbish.pem", tmp_path / "none.pem"
    rubbish.write_text("rubbish")
    cert, key = certificate(tmp_path, b"secret")
    for files in ((rubbish, None), (none, None), (cert, rubbish), (cert, key), (None, rubbish)):
        with pytest.raises(ListenError, match="certificate"):
            tls_context(*files)


@pytest.mark.parametrize(
    ("address", "reason"), [("nonsense", "accepted: HOST:PORT"), ("0.0.0.0:0", "there is no token")]
)
def test_what_cannot_start_ends_with_3_and_one_line(cli: Cli, address: str, reason: str) -> None:
    done = cli.run("serve", "--http", address, "--no-uploader", code=3)
    [line] = done.stderr.splitlines()
    assert line.startswith("snowledger: ")
    assert reason in line
    assert done.stdout == ""


def test_tls(start: Callable[..., HttpServer], tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    server = start("--tls-cert", str(cert), "--tls-key", str(key), listen="localhost:0")
    assert server.scheme == "https"
    with httpx2.Client(verify=ssl.create_default_context(cafile=str(cert))) as client:
        assert call(client, f"https://localhost:{server.port}/mcp", MODERN, "get_context", {}).status_code == 200
        with socket.create_connection((server.host, server.port)) as silent:  # never shakes hands
            assert silent.fileno()
            assert server.end() < 5


def certificate(folder: Path, password: bytes = b"") -> tuple[Path, Path]:
    """One for localhost that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
        )
    )
    return files
