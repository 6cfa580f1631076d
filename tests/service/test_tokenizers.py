"""Tokenizers that a remote reader may name: never by a path, and the answer reveals nothing about the server's files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.served import Serve

from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.tokens.allowed import Allowed, stored_name
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import token_options
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.v1 import firehose_pb2 as pb

from .conftest import read, refusal, resolve, rows_of

WORDS = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"code": 0, "[UNK]": 1, "</s>": 2}, "unk_token": "[UNK]"},
}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A small tokenizer.json."""
    path = tmp_path / "words.json"
    path.write_text(json.dumps(WORDS))
    return path


def options(**more: str) -> dict[str, str]:
    return {"seq_len": "8", "packing": "concat", "boundary": "eos", **more}


def tokens(stub: Any, mix: str, **more: str) -> pb.ResolveMixResponse:
    return resolve(stub, mix, view="tokens", view_options=options(**more))


def test_a_reader_names_no_path_and_learns_nothing_of_files(serve: Serve, home: str, tmp_path: Path) -> None:
    fifo, there = tmp_path / "fifo", tmp_path / "there.json"
    os.mkfifo(fifo)
    there.write_text(json.dumps(WORDS))
    stub = serve(home).stub()
    digest = Tokenizer(str(there)).digest
    told = set()
    for path in ("/dev/zero", str(fifo), str(there), str(tmp_path / "none"), "../there.json", "~/x", ".hidden", "-"):
        for named in ({"tokenizer": path}, {"tokenizer": digest, "tokenizer_name": path}, {"tokenizer_name": path}):
            code, reason, info = refusal(lambda n=named: tokens(stub, "code", **n))
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OPTION_INVALID")
            told.add(info["message"])
    assert told == {"On a server, a tokenizer is named by its name or digest. A path is not allowed."}
    # A recipe that was made elsewhere names it too.
    recipe = json.loads(tokens(stub, "code", tokenizer="bytes").recipe_json)
    told = set()
    for path in ("/dev/zero", str(fifo), str(there), str(tmp_path / "none")):
        recipe["options"] |= {"tokenizer": digest, "tokenizer_name": path}
        _, reason, info = refusal(lambda: read(stub, json.dumps(recipe).encode()))
        assert reason == "OPTION_INVALID"
        told.add(info["message"] + info["remedy"])
    assert len(told) == 1


def test_a_name_that_the_server_allows_is_known_by_its_digest(serve: Serve, home: str, words: Path) -> None:
    stub = serve(home, "--tokenizer", f"words={words}").stub()
    answer = tokens(stub, "code", tokenizer="words")
    recipe = json.loads(answer.recipe_json)
    assert recipe["options"] == {**options(), "tokenizer": Tokenizer(str(words)).digest}
    rows = rows_of(read(stub, answer.recipe_json, max_row_count=1))
    assert rows[0]["length"] == 9
    for other in ("word", "tiktoken:gpt2", "b" * 64):
        assert refusal(lambda n=other: tokens(stub, "code", tokenizer=n))[1] == "OPTION_INVALID"


def test_a_name_that_is_not_allowed_is_refused_with_those_that_are(serve: Serve, home: str, words: Path) -> None:
    stub = serve(home, "--tokenizer", f"words={words}").stub()
    _, _, info = refusal(lambda: tokens(stub, "code", tokenizer="gpt"))
    assert "bytes, words" in info["remedy"]


def test_a_tokenizer_that_the_home_stores_is_named_by_its_digest(serve: Serve, home: str, words: Path) -> None:
    tokenizer = Tokenizer(str(words))
    revision = Catalog(Home(home)).entry("web").revision
    tokenize(Home(home), revision, tokenizer)
    words.unlink()
    stub = serve(home).stub()
    assert tokens(stub, "code", tokenizer=tokenizer.digest).position_count > 0  # another dataset, made from the copy
    Path(home, stored_name(tokenizer.digest)).chmod(0o644)
    Path(home, stored_name(tokenizer.digest)).write_text("{}")
    assert refusal(lambda: tokens(stub, "web", tokenizer=tokenizer.digest, boundary="none"))[1] == "OPTION_INVALID"


def test_a_tokenizer_that_the_server_does_not_have_says_what_can_be_done(serve: Serve, home: str, words: Path) -> None:
    stub = serve(home, "--tokenizer", f"words={words}").stub()
    _, _, info = refusal(lambda: tokens(stub, "code", tokenizer="b" * 64))
    assert "choline-data tokenize code --tokenizer FILE" in info["remedy"] and "bytes, words" in info["remedy"]
    _, _, info = refusal(lambda: resolve(stub, "code", view="tokens"))
    assert "needs tokenizer, seq_len, packing and boundary" in info["message"]


def test_the_client_reads_its_file_itself(serve: Serve, home: str, words: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from choline_data.client import FirehoseDataset

    served = serve(home, "--tokenizer", f"words={words}")
    here = tmp_path / "mine.json"
    here.write_text(words.read_text())
    same = {"view": "tokens", "seq_len": 8, "max_samples": 5}
    by_path = FirehoseDataset("code", server=served.address, tokenizer=str(here), **same)
    by_name = FirehoseDataset("code", server=served.address, tokenizer="words", **same)
    embedded = FirehoseDataset("code", home=home, tokenizer=str(here), **same)
    assert by_path.recipe.digest == by_name.recipe.digest == embedded.recipe.digest
    rows = [[row["tokens"].tolist() for row in dataset] for dataset in (by_path, by_name, embedded)]
    assert rows[0] == rows[1] == rows[2]


def test_a_recipe_of_today_keeps_its_digest() -> None:
    allowed = Allowed.of([])
    for name in ("bytes", "tiktoken:gpt2"):
        told = {**options(), "tokenizer": Tokenizer(name).digest, "tokenizer_name": name}
        assert allowed.settled(Home("memory://none"), told) == told
    made = token_options("bytes", 8)
    assert allowed.settled(Home("memory://none"), made) == made
    assert allowed.settled(Home("memory://none"), options(tokenizer="bytes")) == made
