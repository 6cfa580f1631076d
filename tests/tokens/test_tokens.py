"""Tokens: none is lost, rows are addressed by arithmetic, and boundary tokens are correct."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from choline_data.errors import InvalidOptionError, SourceNotFoundError, SourceTooLargeError
from choline_data.mix import resolve_mix
from choline_data.store.windows import Store
from choline_data.tokens import tokenizers
from choline_data.tokens.packing import Documents, best_fit
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import TokenStream, token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer

TEXTS = ["", "a", "some words", "x" * 50, "ünï", "the end of it all"] * 3


def open_tokens(shelf, mix="web", *, shuffle=False, repeat=False, **options):
    store = Store(shelf.home)
    recipe = resolve_mix(
        mix,
        store,
        view="tokens",
        shuffle=shuffle,
        repeat=repeat,
        options=token_options(**options),
        rows_of=token_rows(),
    )
    return TokenStream(store, recipe)


def test_bytes_with_an_end_token_are_stored_one_document_after_the_other(shelf):
    web = shelf.add("web", {"text": TEXTS})
    array = tokenize(shelf.home, web.revision, Tokenizer("bytes"), "eos")
    expected = [token for text in TEXTS for token in [*text.encode(), 256]]
    assert array.flat.tolist() == expected
    assert array.starts.tolist() == np.cumsum([0, *(len(t.encode()) + 1 for t in TEXTS)]).tolist()


@pytest.mark.parametrize("boundary", ["eos", "bos", "bos+eos", "none"])
@pytest.mark.parametrize("seq_len", [1, 7, 16, 1000])
def test_concat_loses_no_token_and_makes_each_a_target_once(shelf, seq_len, boundary):
    shelf.add("web", {"text": TEXTS})
    stream = open_tokens(shelf, seq_len=seq_len, boundary=boundary)
    batch = stream.read(0, stream.length)
    batch.validate(full=True)
    rows = np.asarray(batch["tokens"].values).reshape(-1, seq_len + 1)
    lengths = batch["length"].to_numpy()
    before = [257] if "bos" in boundary else []
    after = [256] if "eos" in boundary else []
    flat = [t for text in TEXTS for t in [*before, *text.encode(), *after]]
    got = [flat[0]] + [t for row, n in zip(rows.tolist(), lengths.tolist(), strict=True) for t in row[1:n]]
    assert got == flat
    for row, pieces in zip(lengths.tolist(), batch["pieces"].to_pylist(), strict=True):
        assert sum(piece["tokens"] for piece in pieces) == row


def test_best_fit_keeps_documents_whole_and_loses_none(shelf):
    web = shelf.add("web", {"text": TEXTS})
    array = tokenize(shelf.home, web.revision, Tokenizer("bytes"), "eos")
    packed = best_fit(Documents(array), 19)
    sums = np.add.reduceat(packed.rows.length, packed.rows.offsets[:-1])
    assert sums.max() <= 20 and sums.sum() == array.tokens
    assert 0 <= packed.padding < 0.2
    whole = {
        int(d) for d, n in zip(packed.rows.document, packed.rows.length, strict=True) if n == len(TEXTS[d].encode()) + 1
    }
    assert {i for i, t in enumerate(TEXTS) if len(t.encode()) < 20} <= whole


@pytest.mark.parametrize("packing", ["concat", "bfd"])
def test_any_position_gives_the_same_row_alone_and_in_a_range(shelf, packing):
    shelf.add("web", {"text": TEXTS})
    shelf.add("code", {"text": [f"def f{n}(): return {n}" for n in range(40)]})
    stream = open_tokens(shelf, {"web": 1, "code": 2}, shuffle=True, repeat=True, seq_len=16, packing=packing)
    whole = stream.read(0, 200)
    for position in range(0, 200, 13):
        assert stream.read(position, position + 1).equals(whole.slice(position, 1))
    assert stream.read_at(np.array([3, 50, 199])).equals(whole.take([3, 50, 199]))


def test_chat_rows_say_where_the_assistant_speaks(shelf):
    turns = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]]
    shelf.add("chat", {"turns": turns}, kind="chat")
    stream = open_tokens(shelf, "chat", seq_len=200)
    row = stream.read(0, 1).to_pylist()[0]
    spoken = bytes(t for t, m in zip(row["tokens"], row["mask"], strict=True) if m)
    assert spoken == b"hello<|im_end|>"


def test_a_split_is_packed_on_its_own(shelf):
    parts = {("", "train"): {"text": ["aaaa", "bbbb"]}, ("", "test"): {"text": ["cccc"]}}
    shelf.add("web", parts=parts)
    stream = open_tokens(shelf, {"web": {"weight": 1, "split": "test"}}, seq_len=4, boundary="none")
    assert bytes(stream.read(0, stream.length).to_pylist()[0]["tokens"]).rstrip(b"\0") == b"cccc"


def test_a_tokenizer_that_is_not_there_says_what_can_be_named():
    with pytest.raises(SourceNotFoundError, match=r"tokenizer\.json"):
        _ = Tokenizer("nowhere.json").digest


def test_options_that_can_not_be_are_refused():
    with pytest.raises(InvalidOptionError, match="boundary"):
        token_options(boundary="maybe")
    with pytest.raises(InvalidOptionError, match="packing"):
        token_options(packing="tight")
    with pytest.raises(InvalidOptionError, match="seq_len"):
        token_options(seq_len=0)


def test_a_tokenizer_file_gives_its_own_ids(shared_data):
    tokenizer = Tokenizer(str(shared_data / "tokenizers" / "gpt-neo-test-tokenizer.json"))
    assert tokenizer.encode(["Hello world"])[0].tolist() == [12092, 1533]
    assert tokenizer.vocabulary <= 65536


@pytest.mark.parametrize("packing", ["concat", "bfd"])
@pytest.mark.parametrize("seq_len", [5, 30, 4000])
def test_a_row_is_the_tokens_of_its_pieces_whatever_is_mixed(shelf, packing, seq_len):
    shelf.add("web", {"text": TEXTS})
    shelf.add("code", {"text": ["y" * n for n in range(1, 60)]})
    batch = open_tokens(
        shelf, {"web": 0.5, "code": 0.5}, shuffle=True, repeat=True, seq_len=seq_len, packing=packing
    ).read(0, 200)
    texts = {0: ["y" * n for n in range(1, 60)], 1: TEXTS}
    rows = np.asarray(batch["tokens"].values).reshape(200, seq_len + 1)
    columns = (batch["dataset"].to_pylist(), rows, batch["length"].to_pylist(), batch["pieces"].to_pylist())
    for dataset, row, length, pieces in zip(*columns, strict=True):
        at = 0
        for piece in pieces:
            document = bytes(texts[dataset][piece["row"]], "utf-8")
            got = row[at : at + piece["tokens"]].tolist()
            spelled = bytes(t for t in got if t < 256)
            assert spelled in document and 256 not in got[:-1]
            at += piece["tokens"]
        assert at == length and not row[length:].any()


@pytest.fixture
def words(tmp_path):
    """Writes a tokenizer.json of words with these changes; its path."""

    def write(**changes):
        model = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
        whole |= {"pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model, **changes}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(whole))
        return str(path)

    return write


def test_a_tokenizer_is_a_regular_file_of_a_bounded_size(tmp_path, monkeypatch):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in ("/dev/zero", str(fifo), str(tmp_path)):
        with pytest.raises(InvalidOptionError):
            _ = Tokenizer(path).digest
    monkeypatch.setattr(tokenizers, "FILE_BYTES", 1 << 20)
    (tmp_path / "big.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(SourceTooLargeError, match="more than 1 MiB"):
        _ = Tokenizer(str(tmp_path / "big.json")).digest


def test_a_hostile_tokenizer_gives_one_typed_error(tmp_path, words, capfd):
    empty = {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}
    back = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
    for path in (words(normalizer=empty), words(pre_tokenizer=back)):  # both panic at a text
        with pytest.raises(InvalidOptionError, match="fails on a text"):
            Tokenizer(path).encode(["a" * 40 + "c"])
    for raw in (b"", b"{", b"[" * 200_000, b"\xff", b'{"version": "1.0"}'):
        (tmp_path / "t.json").write_bytes(raw)
        with pytest.raises(InvalidOptionError, match=r"t\.json is not a tokenizer\.json"):
            _ = Tokenizer(str(tmp_path / "t.json")).vocabulary
    capfd.readouterr()  # what the library prints of its panics


def test_a_tokenizer_that_cuts_or_pads_texts_is_refused(words):
    cuts = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    pads = {"strategy": {"Fixed": 1 << 31}, "direction": "Right", "pad_to_multiple_of": None}
    pads |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    for what, path in (("truncation", words(truncation=cuts)), ("padding", words(padding=pads))):
        with pytest.raises(InvalidOptionError, match=what):
            Tokenizer(path).encode(["a"])


def test_ids_with_gaps_are_stored_as_they_are(shelf, words):
    web = shelf.add("web", {"text": ["a", "b"]})
    model = {"type": "WordLevel", "vocab": {"a": 70_000, "[UNK]": 1}, "unk_token": "[UNK]"}
    array = tokenize(shelf.home, web.revision, Tokenizer(words(model=model)), "none")
    assert array.flat.tolist() == [70_000, 1]


def test_several_processes_make_the_tokens_of_one(shelf, words):
    web = shelf.add("web", {"text": ["a b"[: n % 4] for n in range(5000)]})
    code = shelf.add("code", {"text": ["a b"[: n % 4] for n in range(5000)] + ["a"]})
    alone = tokenize(shelf.home, web.revision, Tokenizer(words()), "none")
    together = tokenize(shelf.home, code.revision, Tokenizer(words()), "none", workers=2)
    assert together.flat[:-1].tolist() == alone.flat.tolist()


def test_a_recipe_names_no_path_here_either(shelf, words):
    shelf.add("web", {"text": ["a", "b"]})
    path = words()
    options = {**token_options(path, boundary="none"), "tokenizer_name": path}
    with pytest.raises(InvalidOptionError, match="not tokenized"):
        resolve_mix("web", shelf.home, view="tokens", options=options, rows_of=token_rows())
