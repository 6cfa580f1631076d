"""Permissions, over gRPC, Flight and HTTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.served import Serve

from choline_data.errors import InvalidOptionError, LimitError, UnauthenticatedError
from choline_data.service.auth import Gate, TokenFile, check_read
from choline_data.service.limits import Limits
from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1 import firehose_pb2_grpc

from .conftest import kinds, read, refusal, resolve

TRAINER, READER, LISTER, OLD = "trainer-token", "reader-token", "lister-token", "old-token"


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def token_file(folder: Path, *, trainer: str = '{"*": [list, describe, read]}') -> str:
    path = folder / "tokens.yaml"
    path.write_text(
        f"""
tokens:
  - {{id: trainer, sha256: {sha256(TRAINER)}, grants: {trainer}}}
  - {{id: reader, sha256: {sha256(READER)}, grants: {{"we*": [list, describe, read]}}}}
  - {{id: lister, sha256: {sha256(LISTER)}, grants: {{"*": [list]}}}}
  - {{id: old, sha256: {sha256(OLD)}, expires: 2020-01-01, grants: {{"*": [read]}}}}
  - {{id: machine, certificate: trainer.example.org, grants: {{"*": [list, describe, read]}}}}
"""
    )
    path.chmod(0o600)
    return str(path)


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_only_a_valid_token_is_let_in_and_none_is_told_why(serve: Serve, home: str, tmp_path: Path) -> None:
    served = serve(home, "--token-file", token_file(tmp_path))
    stub = served.stub()
    told = set()
    for metadata in (
        [],
        bearer("wrong"),
        bearer(OLD),
        bearer(sha256(TRAINER)),
        bearer("x" * 5000),
        bearer(TRAINER) * 2,
        [("authorization", TRAINER)],
        [("authorization", f"Basic {TRAINER}")],
        [("token", TRAINER)],
    ):
        code, reason, info = refusal(
            lambda m=metadata: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=m, timeout=10)
        )
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        told.add(info["message"])
    assert len(told) == 1
    listed = stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer(TRAINER), timeout=10)
    assert [d.name for d in listed.datasets] == ["code", "web"]


def test_what_is_not_granted_is_not_there(serve: Serve, home: str, tmp_path: Path) -> None:
    served = serve(home, "--token-file", token_file(tmp_path))
    stub = served.stub()
    reader = bearer(READER)
    listed = stub.ListDatasets(pb.ListDatasetsRequest(), metadata=reader, timeout=10)
    assert [d.name for d in listed.datasets] == ["web"]
    for mix in ("code:1", "web:1,code:1", "cod", "CODE", "cоde"):
        code, _, info = refusal(lambda m=mix: stub.ResolveMix(pb.ResolveMixRequest(mix=m), metadata=reader, timeout=10))
        assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        assert "mean 'code'" not in info["remedy"]
    everything = stub.ResolveMix(pb.ResolveMixRequest(mix="*"), metadata=bearer(TRAINER), timeout=10).recipe_json
    code, reason, _ = refusal(lambda: read(stub, everything, metadata=reader))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "DATASET_UNKNOWN")
    code, reason, _ = refusal(lambda: read(stub, everything, metadata=bearer(LISTER)))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    mine = stub.ResolveMix(pb.ResolveMixRequest(mix="*"), metadata=reader, timeout=10).recipe_json
    assert kinds(read(stub, mine, metadata=reader))[-1] == "end"


def test_a_recipe_cannot_rename_a_revision_that_is_not_granted(serve: Serve, home: str, tmp_path: Path) -> None:
    served = serve(home, "--token-file", token_file(tmp_path))
    stub = served.stub()
    raw = stub.ResolveMix(pb.ResolveMixRequest(mix="code"), metadata=bearer(TRAINER), timeout=10).recipe_json
    forged = raw.replace(b'"dataset":"code"', b'"dataset":"web"')
    assert forged != raw
    code, reason, _ = refusal(lambda: read(stub, forged, metadata=bearer(READER)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REVISION_GONE")


def test_a_grant_taken_back_ends_the_stream(serve: Serve, home: str, tmp_path: Path) -> None:
    path = token_file(tmp_path)
    served = serve(home, "--token-file", path, "--limit", "recheck=0.2")
    stub = served.stub()
    options = {"metadata": bearer(TRAINER), "timeout": 30}
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", repeat=True), **options).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), **options)
    next(stream)
    token_file(tmp_path, trainer="{}")
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)


def test_guessing_is_slowed_down_and_valid_tokens_of_the_address_are_not(tmp_path: Path) -> None:
    gate = Gate(token_file(tmp_path), Limits(auth_failures=3))
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            gate.admit(["Bearer guess"], (), "ipv4:10.0.0.1:99")
    with pytest.raises(LimitError, match="Too many bad tokens"):
        gate.admit(["Bearer guess"], (), "ipv4:10.0.0.1:100")
    assert gate.admit([f"Bearer {TRAINER}"], (), "ipv4:10.0.0.1:100").id == "trainer"
    with pytest.raises(UnauthenticatedError):
        gate.admit(["Bearer guess"], (), "ipv4:10.0.0.2:1")


def test_bad_tokens_neither_lock_out_a_neighbour_nor_cut_its_stream(serve: Serve, home: str, tmp_path: Path) -> None:
    served = serve(home, "--token-file", token_file(tmp_path), "--limit", "recheck=0.05", "--limit", "auth_failures=3")
    stub = served.stub()
    options = {"metadata": bearer(TRAINER), "timeout": 30}
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", repeat=True), **options).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), **options)
    next(stream)
    reasons = [
        refusal(lambda: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer("guess"), timeout=10))[1]
        for _ in range(6)
    ]
    assert reasons == ["UNAUTHENTICATED"] * 3 + ["LIMIT_REACHED"] * 3
    assert stub.ListDatasets(pb.ListDatasetsRequest(), **options).datasets
    threading.Event().wait(0.1)  # past a recheck
    assert sum(1 for _, frame in zip(range(200), stream, strict=False) if frame.WhichOneof("frame") == "batch") > 100
    stream.cancel()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tokens: [1]",
        "tokens:\n  - {id: a, sha256: zz}",
        "tokens:\n  - {id: a}",
        "[",
        "tokens: !!python/name:os.system",
    ],
)
def test_a_token_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(InvalidOptionError):
        TokenFile(str(path))


@pytest.mark.parametrize("damage", ["nonsense", "[", "empty", "gone", "binary", "big", "writable", "folder"])
def test_a_token_file_that_breaks_later_keeps_the_last_good_one(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(token_file(tmp_path))
    tokens = TokenFile(str(path))
    if damage == "gone":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "writable":
        token_file(tmp_path, trainer="{}")
        path.chmod(0o666)
    else:
        path.write_bytes({"empty": b"", "binary": b"\xff", "big": b"#" * (5 << 20)}.get(damage, damage.encode()))
    for _ in range(3):
        tokens.refresh()
    tokens.reload()
    kept = tokens.of_token(TRAINER)
    assert kept is not None and kept.may("read", "web")
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2  # once, and once more for the reload
    assert all("tokens.yaml" in record.getMessage() and "stay as they were" in record.getMessage() for record in told)
    if damage == "folder":
        path.rmdir()
    token_file(tmp_path, trainer="{}")
    tokens.refresh()
    mended = tokens.of_token(TRAINER)
    assert mended is not None and not mended.may("read", "web")


def test_a_stream_outlives_a_token_file_that_breaks(serve: Serve, home: str, tmp_path: Path) -> None:
    path = Path(token_file(tmp_path))
    served = serve(home, "--token-file", str(path), "--limit", "recheck=0.05")
    stub = served.stub()
    options = {"metadata": bearer(TRAINER), "timeout": 30}
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", repeat=True), **options).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), **options)
    next(stream)
    path.write_text("tokens: [")
    threading.Event().wait(0.1)  # past a recheck
    assert sum(1 for _, frame in zip(range(200), stream, strict=False) if frame.WhichOneof("frame") == "batch") > 100
    stream.cancel()
    assert served.terminate() == 0
    assert "The grants stay as they were" in served.errors()


def test_a_token_file_that_others_may_write_is_refused_and_the_remedy_works(tmp_path: Path) -> None:
    path = Path(token_file(tmp_path))
    for mode in (0o602, 0o620, 0o666):
        path.chmod(mode)
        with pytest.raises(InvalidOptionError, match="others may write it") as caught:
            TokenFile(str(path))
        subprocess.run(caught.value.remedy.split("`")[1], shell=True, check=True)
        assert TokenFile(str(path)).of_token(TRAINER)
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidOptionError, match="may replace it") as caught:
        TokenFile(str(path))
    subprocess.run(caught.value.remedy.split("`")[1], shell=True, check=True)
    assert TokenFile(str(path)).of_token(TRAINER)


def test_two_entries_of_one_token_are_refused(tmp_path: Path) -> None:
    path = Path(token_file(tmp_path))
    path.write_text(path.read_text() + f"  - {{id: again, sha256: {sha256(TRAINER)}, grants: {{}}}}\n")
    with pytest.raises(InvalidOptionError, match="two entries"):
        TokenFile(str(path))


def test_one_source_that_may_not_be_read_refuses_the_whole(tmp_path: Path) -> None:
    reader = TokenFile(token_file(tmp_path)).of_token(READER)
    assert reader is not None
    check_read(reader, ["web"], ["web", "code"])
    with pytest.raises(Exception, match="No dataset"):
        check_read(reader, ["web", "code"], ["web", "code"])


@pytest.fixture
def pems(tmp_path: Path) -> dict[str, str]:
    """A certificate of a server, one of a client, and of a stranger."""
    authority, stranger = trustme.CA(), trustme.CA()
    out = {}
    for name, issuer, common in (
        ("server", authority, None),
        ("client", authority, "trainer.example.org"),
        ("stranger", stranger, "trainer.example.org"),
    ):
        issued = issuer.issue_cert("localhost", "127.0.0.1", common_name=common)
        (tmp_path / f"{name}.pem").write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))
        (tmp_path / f"{name}.key").write_bytes(issued.private_key_pem.bytes())
        out[name] = str(tmp_path / f"{name}.pem")
        out[f"{name}_key"] = str(tmp_path / f"{name}.key")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {**out, "ca": str(tmp_path / "ca.pem")}


def secure(served: Any, pems: dict[str, str], client: str = "") -> Any:
    pair = {}
    if client:
        pair = {
            "private_key": Path(pems[f"{client}_key"]).read_bytes(),
            "certificate_chain": Path(pems[client]).read_bytes(),
        }
    credentials = grpc.ssl_channel_credentials(Path(pems["ca"]).read_bytes(), **pair)
    return firehose_pb2_grpc.FirehoseServiceStub(
        grpc.secure_channel(f"localhost:{served.port}", credentials, [("grpc.use_local_subchannel_pool", 1)])
    )


def test_a_client_certificate_is_an_identity(serve: Serve, home: str, tmp_path: Path, pems: dict[str, str]) -> None:
    served = serve(
        home,
        *("--host", "0.0.0.0", "--token-file", token_file(tmp_path)),
        *("--tls-cert", pems["server"], "--tls-key", pems["server_key"], "--client-ca", pems["ca"]),
    )
    stub = secure(served, pems, "client")
    assert kinds(read(stub, resolve(stub, "web").recipe_json))[-1] == "end"
    for client in ("", "stranger"):
        with pytest.raises(grpc.RpcError) as caught:
            secure(served, pems, client).ListDatasets(pb.ListDatasetsRequest(), timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError):  # a plain client of a TLS port
        served.stub().ListDatasets(pb.ListDatasetsRequest(), timeout=5)


def ask(address: str, target: str, headers: dict[str, str] | None = None, tls: Any = None) -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = kind(address, timeout=20, **({"context": tls} if tls else {}))
    try:
        connection.request("GET", target, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_curl_reads_a_stream_as_lines_of_json(serve: Serve, home: str) -> None:
    served = serve(home, "--http-port", "0")
    at = served.addresses["http"]
    status, body = ask(at, "/v1/stream?mix=web:0.5,code:0.5&n=20&seed=3")
    rows = [json.loads(line) for line in body.splitlines()]
    assert (status, len(rows)) == (200, 20)
    assert {"id", "dataset", "text"} <= set(rows[0])
    _, rest = ask(at, "/v1/stream?mix=web:0.5,code:0.5&n=15&seed=3&start=5")
    assert body.splitlines()[5:] == rest.splitlines()
    _, text = ask(at, "/v1/stream?mix=code&view=text")
    assert len(text.splitlines()) == 700
    for target, code in (
        ("/v1/stream?mix=nope", 404),
        ("/v1/stream?mix=", 400),
        ("/v1/stream?mix=web&n=-1", 400),
        ("/v1/stream?mix=web&x=1", 400),
        ("/v1/stream?mix=web&mix=code", 400),
        ("/..%2f..%2fetc/passwd", 404),
    ):
        assert ask(at, target)[0] == code, target
    assert ask(at, "/v1/stream?mix=web&n=1", {"Host": "attacker.invalid"})[0] == 421
    assert ask(at, "/v1/stream?mix=web&n=1", {"Origin": "https://attacker.invalid"})[0] == 403
    assert ask(at, "/v1/stream?mix=" + "x" * 20_000)[0] == 431


def test_http_has_the_same_auth(serve: Serve, home: str, tmp_path: Path, pems: dict[str, str]) -> None:
    served = serve(
        home,
        *("--http-port", "0", "--token-file", token_file(tmp_path)),
        *("--tls-cert", pems["server"], "--tls-key", pems["server_key"]),
    )
    at = served.addresses["http"]
    tls = ssl.create_default_context(cafile=pems["ca"])
    assert ask(at, "/v1/stream?mix=web&n=1", tls=tls)[0] == 401
    assert ask(at, f"/v1/stream?mix=web&n=1&token={TRAINER}", tls=tls)[0] == 401
    assert ask(at, "/v1/stream?mix=code&n=1", {"Authorization": f"Bearer {READER}"}, tls)[0] == 404
    status, body = ask(at, "/v1/stream?mix=web&n=1", {"Authorization": f"Bearer {READER}"}, tls)
    assert (status, len(body.splitlines())) == (200, 1)
