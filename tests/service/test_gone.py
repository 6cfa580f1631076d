"""A recipe whose revision was removed: the error for its readers, when they open it and in mid-stream."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import grpc
import pytest

from choline_data.client import FirehoseDataset
from choline_data.errors import DamagedStoreError, RevisionGoneError
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.garbage import collect
from choline_data.v1 import firehose_pb2 as pb
from choline_data.views import open_stream

from .conftest import refusal, resolve


def two_files(shelf: Any, word: str, rows: int = 400, size: int = 1, **options: Any) -> Any:
    """A dataset whose windows lie in two store files."""
    text = {split: {"text": [f"{word} {split} {n} " * size for n in range(rows)]} for split in ("train", "test")}
    return shelf.add("web", parts={("", split): columns for split, columns in text.items()}, **options)


def removed(home: Home) -> None:
    Catalog(home).remove("web")
    assert collect(home, keep_days=0).revisions == 1


@pytest.mark.parametrize("view", ["samples", "text"])
def test_opening_it_names_the_dataset_and_the_revision(shelf, view):
    web = two_files(shelf, "page")
    recipe = resolve_mix("web/all", shelf.home, view=view)
    removed(shelf.home)
    with pytest.raises(RevisionGoneError, match=f"web@{web.revision[:12]} is gone") as caught:
        open_stream(Store(shelf.home), recipe)
    assert caught.value.metadata == {"dataset": "web", "revision": web.revision}
    two_files(shelf, "page")  # what the remedy says
    assert open_stream(Store(shelf.home), recipe).read(0, 10).num_rows == 10


def test_what_a_stream_has_mapped_stays_and_what_it_has_not_is_gone(shelf):
    web = two_files(shelf, "page")
    stream = SampleStream(Store(shelf.home), resolve_mix("web/all", shelf.home, shuffle=False))
    before = stream.read(0, 10)
    removed(shelf.home)
    assert stream.read(0, 10).equals(before)
    with pytest.raises(RevisionGoneError, match=f"web@{web.revision[:12]} is gone"):
        stream.read(700, 710)


def test_a_file_that_is_missing_from_a_revision_of_the_catalog_is_damage(shelf):
    web = two_files(shelf, "page")
    stream = SampleStream(Store(shelf.home), resolve_mix("web/all", shelf.home, shuffle=False))
    for name in shelf.home.names("data"):
        shelf.home.remove(name)
    with pytest.raises(DamagedStoreError, match="missing"):
        stream.read(0, 10)
    shelf.home.remove(f"revisions/{web.revision}/manifest.arrow")
    with pytest.raises(DamagedStoreError, match=f"The manifest of web@{web.revision[:12]} is missing"):
        open_revision(shelf.home, web.revision)


def test_a_reader_in_mid_stream_is_told(shelf):
    web = two_files(shelf, "page")
    reading = iter(FirehoseDataset("web/all", home=shelf.home.location, shuffle=False))
    next(reading)
    removed(shelf.home)
    with pytest.raises(RevisionGoneError, match=f"web@{web.revision[:12]} is gone"):
        deque(reading)


def test_who_reads_keeps_a_revision_that_was_removed(shelf):
    two_files(shelf, "page")
    stream = open_stream(Store(shelf.home), resolve_mix("web/all", shelf.home, shuffle=False))
    Catalog(shelf.home).remove("web")
    for number in (1, 2):
        path = shelf.home.path(f"catalog/{number:08d}.json")
        os.utime(path, (0, 0))
    assert collect(shelf.home).kept["read in the last 30 days"].files > 0
    assert stream.read(700, 710).num_rows == 10
    assert collect(shelf.home, keep_days=0).revisions == 1


def test_tokens_of_it_are_gone_with_it(shelf):
    web = two_files(shelf, "page")
    tokenize(shelf.home, web.revision, Tokenizer("bytes"))
    options = token_options(seq_len=16)
    recipe = resolve_mix("web/all", shelf.home, view="tokens", options=options, rows_of=token_rows())
    removed(shelf.home)
    with pytest.raises(RevisionGoneError, match="web@"):
        open_stream(Store(shelf.home), recipe)


def test_a_server_answers_failed_precondition_to_who_opens_it_and_in_mid_stream(serve, shelf):
    web = two_files(shelf, "page", 600, size=4000, block_rows=1)  # a window has 64 rows
    stub = serve(shelf.home.location).stub()
    raw = resolve(stub, "web/all", in_source_order=True).recipe_json
    begun = stub.ReadStream(pb.ReadStreamRequest(recipe_json=raw), timeout=60)
    next(begun)
    two_files(shelf, "other")
    assert collect(shelf.home, keep_days=0).revisions == 1

    def again() -> None:
        next(stub.ReadStream(pb.ReadStreamRequest(recipe_json=raw, start_position=1100), timeout=30))

    code, reason, info = refusal(lambda: deque(begun))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REVISION_GONE")
    assert web.revision == info["revision"] and info["dataset"] == "web"
    Catalog(shelf.home).remove("web")
    code, reason, info = refusal(again)
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REVISION_GONE")
    assert f"web@{web.revision[:12]}" in info["message"]
