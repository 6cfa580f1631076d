"""The HTTP port with browsers and invalid requests, and whether a caller sees the path of the home."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.served import Serve, Served

from choline_data.errors import UnknownDatasetError
from choline_data.mix import resolve_mix
from choline_data.service.peers import is_near, network_of
from choline_data.store import Catalog
from choline_data.v1 import firehose_pb2 as pb

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .conftest import filled, refusal, resolve
from .test_access import LISTER, READER, TRAINER, ask, bearer, token_file


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with an HTTP port, which no request may hurt."""
    with Served(filled(Shelf(tmp_path_factory.mktemp("face") / "home")), "--http-port", "0") as served:
        yield served
        assert served.terminate() == 0
        assert "Traceback" not in served.errors()


def sent(at: str, raw: bytes) -> tuple[int, bytes]:
    """The status and the rest of the answer to these bytes; 0 for none."""
    host, _, port = at.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def get(at: str, target: str, *headers: str) -> tuple[int, bytes]:
    return sent(at, "\r\n".join([f"GET {target} HTTP/1.1", *headers, "", ""]).encode("latin-1"))


ONE = "/v1/stream?mix=web&n=1"


def test_what_another_sites_page_sends_is_refused(face: Served) -> None:
    at = face.addresses["http"]
    for site, status in (("none", 200), ("same-origin", 200), ("cross-site", 403), ("same-site", 403), ("x", 403)):
        assert get(at, ONE, "Host: localhost", f"Sec-Fetch-Site: {site}")[0] == status
    assert get(at, ONE, "Host: localhost", "Origin: null")[0] == 403
    assert get(at, ONE, "Host: localhost", "Origin: http://localhost")[0] == 403
    for host in ("attacker.invalid", "localhost.attacker.invalid", "127.0.0.1.attacker.invalid", "10.0.0.1", "0"):
        status, body = get(at, ONE, f"Host: {host}")
        assert (status, "--http-host" in json.loads(body)["error"]["remedy"]) == (421, True)
    for host in ("localhost", f"localhost:{at.rpartition(':')[2]}", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert get(at, ONE, f"Host: {host}")[0] == 200


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (ONE, ["Host: ["]),
        (ONE, ["Host: [::1"]),
        (ONE, ["Host: ]"]),
        (ONE, ["Host: "]),
        (ONE, []),
        (ONE, ["Host: localhost", "Host: localhost"]),
        ("//[", ["Host: localhost"]),
        ("http://[", ["Host: localhost"]),
        ("/v1/stream?" + "&".join(f"a{n}=1" for n in range(200)), ["Host: localhost"]),
        ("/v1/stream?" + "&".join(["mix=web"] * 200), ["Host: localhost"]),
        ("/v1/stream?mix=%ff%fe&n=1", ["Host: localhost"]),
        ("/v1/stream?mix=web&n=" + "9" * 5000, ["Host: localhost"]),
        ("/v1/stream?mix=web&n=\xb2", ["Host: localhost"]),
        ("/v1/stream?mix=web&view=" + "x" * 900, ["Host: localhost"]),
        ("/v1/stream?mix=web&where=%00", ["Host: localhost"]),
    ],
)
def test_nonsense_is_a_bad_request(face: Served, target: str, headers: list[str]) -> None:
    status, body = get(face.addresses["http"], target, *headers)
    assert status in ((400, 404) if "mix=%ff" in target else (400,)), body
    assert b"request_id" not in body and b"INTERNAL" not in body


def test_no_bytes_are_a_fault_of_the_server(face: Served) -> None:
    at, source = face.addresses["http"], random.Random(7)
    valid = f"GET {ONE} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()
    seen = set()
    for _ in range(300):
        raw = bytearray(valid)
        for _ in range(source.randrange(1, 6)):
            raw[source.randrange(len(raw) - 4)] = source.choice(b"[]:/?#%@\\\x00\xff\t &=GH12")
        seen.add(sent(at, bytes(raw))[0])
    assert seen <= {0, 200, 400, 404, 405, 421, 403}
    assert get(at, ONE, "Host: localhost")[0] == 200


def test_a_server_without_tls_and_tokens_is_asked_by_address_or_by_a_name_that_it_has(serve: Serve, home: str) -> None:
    served = serve(home, "--host", "0.0.0.0", "--insecure", "--http-port", "0", "--http-host", "Data.example.org")
    at = f"127.0.0.1:{served.addresses['http'].rpartition(':')[2]}"
    names = {"10.1.2.3": 200, "data.example.org": 200, socket.gethostname(): 200, "rebound.invalid": 421}
    assert {name: get(at, ONE, f"Host: {name}")[0] for name in names} == names


def test_one_who_may_only_list_does_not_describe(serve: Serve, home: str, tmp_path: Path) -> None:
    stub = serve(home, "--token-file", token_file(tmp_path)).stub()

    def described(name: str, token: str) -> Any:
        return stub.GetDataset(pb.GetDatasetRequest(name=name), metadata=bearer(token), timeout=20)

    code, reason, info = refusal(lambda: described("web", LISTER))
    assert (code, reason, info["dataset"]) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "web")
    assert refusal(lambda: described("none", LISTER))[1] == "DATASET_UNKNOWN"
    assert refusal(lambda: described("code", READER))[1] == "DATASET_UNKNOWN"
    assert described("web", READER).dataset.splits[0].row_count == 3000


def test_a_position_outside_a_stream_without_end_says_where_positions_begin(serve: Serve, home: str) -> None:
    stub = serve(home).stub()
    recipe = resolve(stub, "web", repeat=True).recipe_json
    request = pb.GetSamplesRequest(recipe_json=recipe, positions=[-1])
    _, _, info = refusal(lambda: stub.GetSamples(request, timeout=20))
    assert info["remedy"] == "Positions begin with 0."


def test_this_machine_learns_which_home_was_searched_and_others_do_not(serve: Serve, home: str, tmp_path: Path) -> None:
    served = serve(home, "--http-port", "0", "--token-file", token_file(tmp_path))
    stub, at = served.stub(), served.addresses["http"]
    here = f"No dataset 'none' in the catalog of {home}."
    far = "No dataset 'none' in the catalog."

    def refused(*more: tuple[str, str]) -> dict[str, str]:
        metadata = [*bearer(TRAINER), *more]
        return refusal(lambda: stub.ResolveMix(pb.ResolveMixRequest(mix="none"), metadata=metadata, timeout=20))[2]

    assert (refused()["message"], refused()["home"]) == (here, home)
    told = refused(("x-forwarded-for", "203.0.113.7"))
    assert told["message"] == far and home not in str(told)
    own = {"Authorization": f"Bearer {TRAINER}"}
    assert json.loads(ask(at, "/v1/stream?mix=none", own)[1])["error"]["message"] == here
    assert json.loads(ask(at, "/v1/stream?mix=none", {**own, "Via": "1.1 proxy"})[1])["error"]["message"] == far
    _, body = ask(at, "/v1/stream?mix=none")
    assert home.encode() not in body
    get_one = pb.GetDatasetRequest(name="none")
    assert refusal(lambda: stub.GetDataset(get_one, metadata=bearer(TRAINER), timeout=20))[2]["message"] == here


def test_without_a_server_the_home_is_named_too(shelf: Shelf) -> None:
    shelf.add("web", {"text": ["a"]})
    for search in (lambda: Catalog(shelf.home).entry("wob"), lambda: resolve_mix("wob", shelf.home)):
        with pytest.raises(UnknownDatasetError) as caught:
            search()
        assert shelf.home.location in caught.value.message and "'web'" in caught.value.remedy


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("unix:/run/x.sock", True),
        ("unix:", True),
        ("127.0.0.1:", True),
        ("::1:", True),
        ("ipv4:10.0.0.1:5000", False),
        ("ipv6:[fe80::1]:5000", False),
        ("ipv4:127.0.0.1.evil:5", False),
        ("", False),
    ],
)
def test_who_is_near(peer: str, near: bool) -> None:
    assert is_near(peer) is near
    assert not is_near(peer, ["X-Forwarded-For"])


def test_whose_bad_tokens_count_together() -> None:
    one_site = ["ipv6:[2001:db8::1]:5", "ipv6:%5B2001:db8::2%5D:6", "2001:db8::3:"]
    assert len({network_of(peer) for peer in one_site}) == 1
    others = ["ipv6:[2001:db8:0:1::1]:5", "ipv4:10.0.0.1:5", "ipv4:10.0.0.2:5", "unix:", "unix:/run/x"]
    assert len({network_of(peer) for peer in others}) >= 4
    assert network_of("ipv6:[::ffff:10.0.0.1]:5") == network_of("ipv4:10.0.0.1:99")


def test_a_reader_beside_many_bad_requests_goes_on(face: Served) -> None:
    stub = face.stub()
    recipe = resolve(stub, "web", repeat=True).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), timeout=60)

    def annoy() -> None:
        for _ in range(50):
            get(face.addresses["http"], "//[", "Host: [")

    threads = [threading.Thread(target=annoy) for _ in range(4)]
    for thread in threads:
        thread.start()
    frames = sum(1 for _, frame in zip(range(100), stream, strict=False) if frame.WhichOneof("frame") == "batch")
    for thread in threads:
        thread.join()
    stream.cancel()
    assert frames > 50
