"""Changes that a server picks up without a restart, and Unix sockets."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.served import Serve

from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1 import firehose_pb2_grpc

from .conftest import kinds, read, refusal, resolve
from .test_access import TRAINER, ask, bearer, sha256, token_file


class Authority:
    """Issues the server's certificate into the same two files, time and again."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.rotate()

    def rotate(self) -> None:
        """A new authority and a new certificate; a connection that trusts the old one sees the difference."""
        self.ca = trustme.CA()
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        for path, content in (
            (self.key, issued.private_key_pem.bytes()),
            (self.cert, b"".join(p.bytes() for p in issued.cert_chain_pems)),
        ):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            os.replace(new, path)

    def channel(self, port: int) -> grpc.Channel:
        """A new connection that trusts the newest certificate only."""
        credentials = grpc.ssl_channel_credentials(self.ca.cert_pem.bytes())
        return grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])

    def trusting(self) -> ssl.SSLContext:
        """The same for HTTP."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))


def datasets(channel: grpc.Channel) -> list[str]:
    with channel:
        stub = firehose_pb2_grpc.FirehoseServiceStub(channel)
        return [d.name for d in stub.ListDatasets(pb.ListDatasetsRequest(), timeout=10).datasets]


def test_a_new_certificate_is_taken_by_new_connections_and_open_streams_go_on(
    serve: Serve, home: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    served = serve(home, "--http-port", "0", *authority.flags)
    with authority.channel(served.port) as before:
        stub = firehose_pb2_grpc.FirehoseServiceStub(before)
        recipe = resolve(stub, "web", repeat=True).recipe_json
        stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, max_row_count=4000), timeout=60)
        next(stream)
        authority.rotate()
        assert datasets(authority.channel(served.port)) == ["code", "web"]
        assert ask(served.addresses["http"], "/v1/stream?mix=web&n=1", tls=authority.trusting())[0] == 200
        assert [*stream][-1].end.row_count == 4000


def test_files_that_do_not_go_together_leave_the_old_certificate(serve: Serve, home: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    served = serve(home, *authority.flags)
    good = authority.cert.read_bytes()
    authority.cert.write_bytes(b"no certificate")
    assert datasets(authority.channel(served.port)) == ["code", "web"]
    authority.cert.unlink()
    assert datasets(authority.channel(served.port)) == ["code", "web"]
    authority.cert.write_bytes(good)
    authority.rotate()
    assert datasets(authority.channel(served.port)) == ["code", "web"]


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reads_the_tokens_again_and_ends_nothing(serve: Serve, home: str, tmp_path: Path, workers: int) -> None:
    path = Path(token_file(tmp_path))
    served = serve(home, "--token-file", str(path), "--workers", str(workers))
    stub = served.stub()
    stamp = path.stat()
    old, new = sha256(TRAINER), sha256("other-token")
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # an edit that only SIGHUP shows
    assert path.stat().st_size == stamp.st_size
    served.signal(signal.SIGHUP)

    def let_in(token: str) -> bool:
        try:
            stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer(token), timeout=10)
        except grpc.RpcError:
            return False
        return True

    until = time.monotonic() + 20
    while not let_in("other-token"):
        assert time.monotonic() < until
        threading.Event().wait(0.1)
    refusal(lambda: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer(TRAINER), timeout=10))
    assert served.terminate() == 0


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for sockets. The system limits the length of their paths, and that of `tmp_path` may be longer."""
    with tempfile.TemporaryDirectory(prefix="choline-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_unix_socket_serves_this_user_only(serve: Serve, home: str, sockets: Path) -> None:
    path = sockets / "choline.sock"
    served = serve(home, "--host", f"unix:{path}")
    assert served.address == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == 0o600
    stub = served.stub()
    assert kinds(read(stub, resolve(stub, "web").recipe_json))[-1] == "end"
    assert served.terminate() == 0
    assert not path.exists()


def test_the_client_reads_from_a_unix_socket(serve: Serve, home: str, tmp_path: Path, sockets: Path) -> None:
    pytest.importorskip("torch")
    from choline_data.client import FirehoseDataset

    tokens = token_file(tmp_path)
    served = serve(home, "--host", f"unix:{sockets / 'choline.sock'}", "--token-file", tokens)
    rows = list(FirehoseDataset("web", server=served.address, token=TRAINER, max_samples=20))
    assert [row["position"] for row in rows] == list(range(20))


def refused_start(home: str, *flags: str) -> str:
    command = [sys.executable, "-m", "choline_data.service", "--home", home, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_socket_of_another_server_is_not_taken_and_one_left_behind_is(serve: Serve, home: str, sockets: Path) -> None:
    path = sockets / "choline.sock"
    first = serve(home, "--host", f"unix:{path}")
    assert "another server listens" in refused_start(home, "--host", f"unix:{path}")
    first.kill()
    assert path.exists()
    second = serve(home, "--host", f"unix:{path}")
    assert datasets(second.channel()) == ["code", "web"]
    kept = sockets / "notes.txt"
    kept.write_text("mine")
    assert "not a socket" in refused_start(home, "--host", f"unix:{kept}")
    assert kept.read_text() == "mine"


def test_what_a_unix_socket_can_not_have_is_refused(home: str, sockets: Path) -> None:
    host = ("--host", f"unix:{sockets / 's'}")
    for flags, words in (
        (("--host", "unix:"), "has no path"),
        (("--host", f"unix:/tmp/{'s' * 100}"), "more than 100 bytes"),
        ((*host, "--workers", "2"), "has no port"),
        ((*host, "--tls-cert", "c", "--tls-key", "k"), "has no TLS"),
    ):
        assert words in refused_start(home, *flags)


@pytest.mark.parametrize("missing", ["cert", "key", "ca"])
def test_tls_files_that_are_not_right_are_told_at_the_start(home: str, tmp_path: Path, missing: str) -> None:
    authority = Authority(tmp_path)
    ca = tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(ca))
    spoiled = {"cert": authority.cert, "key": authority.key, "ca": ca}[missing]
    spoiled.write_text("nothing of the kind")
    flags = (*authority.flags, "--client-ca", str(ca))
    assert "not a certificate and its key" in refused_start(home, *flags)
    spoiled.unlink()
    assert "can't be read" in refused_start(home, *flags)


def test_a_client_certificate_is_an_identity_over_http_too(serve: Serve, home: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ca = tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(ca))
    flags = (*authority.flags, "--client-ca", str(ca), "--token-file", token_file(tmp_path), "--http-port", "0")
    at = serve(home, *flags).addresses["http"]

    def answer(common_name: str | None) -> int:
        tls = authority.trusting()
        if common_name is not None:
            authority.ca.issue_cert("x.example.org", common_name=common_name).configure_cert(tls)
        return ask(at, "/v1/stream?mix=web&n=1", tls=tls)[0]

    assert answer("trainer.example.org") == 200
    assert answer("someone.example.org") == 401
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answer(None)
    stranger: Any = authority.trusting()
    trustme.CA().issue_cert("x.example.org", common_name="trainer.example.org").configure_cert(stranger)
    with pytest.raises((ssl.SSLError, ConnectionError, socket.timeout)):
        ask(at, "/v1/stream?mix=web&n=1", tls=stranger)
