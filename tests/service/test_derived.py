"""What requests leave in a home, through real servers: its quota, and a home that can't be written."""

from __future__ import annotations

import resource
from pathlib import Path

import grpc
from tests.served import Serve

from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.store.derived import items
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.v1 import firehose_pb2 as pb

from .conftest import kinds, read, refusal, resolve

TOKENS = {"tokenizer": "bytes", "seq_len": "32", "packing": "concat", "boundary": "eos"}


def ids_of(home: str, dataset: str) -> list[bytes]:
    from choline_data.store import open_revision

    opened = open_revision(Home(home), Catalog(Home(home)).entry(dataset).revision)
    return [value for batch in opened.read(0, 10, ["id"]) for value in batch["id"].to_pylist()][:10]


def test_a_home_that_is_full_is_served_without_keeping_anything(serve: Serve, home: str) -> None:
    tokenize(Home(home), Catalog(Home(home)).entry("code").revision, Tokenizer("bytes"))
    served = serve(home)
    stub = served.stub()
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    filtered = resolve(stub, "web", where="len(text) > 405")
    assert kinds(read(stub, filtered.recipe_json, max_row_count=10))[-1] == "end"
    request = pb.GetSamplesRequest(dataset="web", ids=ids_of(home, "web"), columns=["text"])
    assert stub.GetSamples(request, timeout=20).row_count == 10
    packed = resolve(stub, "code", view="tokens", view_options={**TOKENS, "packing": "bfd"})
    assert kinds(read(stub, packed.recipe_json, max_row_count=10))[-1] == "end"
    code, reason, info = refusal(lambda: resolve(stub, "web", view="tokens", view_options=TOKENS))
    assert reason == "HOME_UNUSABLE" and code != grpc.StatusCode.INTERNAL
    assert home not in info["path"]
    claim = pb.ReaderClaim(run="run", peer=1, claimant=b"m" * 16)
    code, reason, info = refusal(lambda: read(stub, filtered.recipe_json, max_row_count=10, claim=claim))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")  # never a claim that does not hold
    assert "without a run" in info["remedy"]
    assert items(Home(home)) == []
    assert served.terminate() == 0
    assert "Traceback" not in served.errors()


def test_what_a_reader_makes_stays_within_the_quota_and_its_neighbour_reads_on(serve: Serve, home: str) -> None:
    served = serve(home, "--limit", "derived_bytes=100000", "--limit", "derived_files=8")
    stub = served.stub()
    first = resolve(stub, "web", where="len(text) > 405", repeat=True).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=first), timeout=120)
    next(stream)
    for number in range(25):
        resolve(stub, "web", where=f"len(text) > {number}")
        assert len(items(Home(home))) <= 8
        assert sum(item.size for item in items(Home(home))) <= 100_000
        assert next(stream).WhichOneof("frame") in ("batch", "heartbeat")
    stream.cancel()
    again = resolve(stub, "web", where="len(text) > 405", repeat=True)
    assert again.recipe_json == first
    assert kinds(read(stub, first, max_row_count=5))[-1] == "end"


def test_a_setting_that_stops_a_request_is_named(serve: Serve, home: str) -> None:
    flags = {"request_tokens": 100, "derived_bytes": 100, "packed_pieces": 10}
    tokenize(Home(home), Catalog(Home(home)).entry("code").revision, Tokenizer("bytes"))
    served = serve(home, "--limit", "derived_bytes=100", "--limit", "packed_pieces=10")
    stub = served.stub()
    _, reason, info = refusal(lambda: resolve(stub, "web", view="tokens", view_options=TOKENS))
    assert (reason, info["setting"], info["limit"]) == ("LIMIT_REACHED", "derived_bytes", str(flags["derived_bytes"]))
    packed = {**TOKENS, "packing": "bfd", "seq_len": "1"}
    _, reason, info = refusal(lambda: resolve(stub, "code", view="tokens", view_options=packed))
    assert (reason, info["setting"], info["limit"]) == ("REQUEST_TOO_LARGE", "packed_pieces", "10")
    small = serve(home, "--limit", "request_tokens=100").stub()
    _, reason, info = refusal(lambda: resolve(small, "web", view="tokens", view_options=TOKENS))
    assert reason == "OPTION_INVALID" and "choline-data tokenize web" in info["remedy"]
    assert not list(Path(home, "staging").glob("*"))
