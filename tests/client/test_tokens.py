"""The tokens view through FirehoseDataset: every format, from here and from a server, resumed and shared out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from choline_data.errors import InvalidOptionError
from choline_data.tokens.trainer_formats import Packed, TokenFormat

TOKENS = {"view": "tokens", "seq_len": 32, "batch_size": 4}
FORMATS = (None, "nanogpt", "torchtitan", "hf", "hf_flat", "megatron")


def told(batch: Any) -> Any:
    """A batch as plain values, which compare."""
    if isinstance(batch, tuple):
        return [told(part) for part in batch]
    if isinstance(batch, torch.Tensor):
        return batch.tolist()
    return (
        {k: told(v) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        if isinstance(batch, dict)
        else batch
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_server_and_a_home_give_the_same_rows(firehose: Any, remote: Any, form: str | None):
    ours, theirs = firehose(**TOKENS, format=form), remote(**TOKENS, format=form)
    assert ours.recipe == theirs.recipe
    assert [told(batch) for batch in theirs] == [told(batch) for batch in ours]


@pytest.mark.parametrize("form", ["nanogpt", "hf", "hf_flat", "megatron"])
def test_batches_say_their_positions_and_datasets(firehose: Any, form: str):
    dataset = firehose(**TOKENS, format=form)
    batches = list(dataset)
    assert [p for batch in batches for p in batch["position"].tolist()] == list(range(dataset.length))
    assert {name for batch in batches for name in batch["dataset"]} == {"web", "code", "chat"}


@pytest.mark.parametrize("packing", ["concat", "bfd"])
@pytest.mark.parametrize("form", ["nanogpt", "torchtitan"])
def test_a_state_resumes_at_any_batch(firehose: Any, form: str, packing: str):
    options = {**TOKENS, "format": form, "packing": packing}
    whole = [told(batch) for batch in firehose(**options)]
    for cut in (0, 1, 7, len(whole) - 1):
        first = firehose(**options)
        taken = [told(batch) for batch in islice(first, cut)]
        second = firehose(**options)
        second.load_state_dict(first.state_dict())
        assert taken + [told(batch) for batch in second] == whole


def test_ranks_go_on_where_other_ranks_left(firehose: Any):
    """Two ranks for three steps, then three of the same global batch: each position once, in order."""
    got: list[tuple[int, list[int]]] = []
    state: dict[str, Any] = {}
    for rank in range(2):
        dataset = firehose(**{**TOKENS, "batch_size": 6}, format="nanogpt", rank=rank, world_size=2)
        for batch in islice(dataset, 3):
            got += zip(batch["position"].tolist(), batch["x"].tolist(), strict=True)
        state = dataset.state_dict()
    assert state["position"] == 36
    for rank in range(3):
        dataset = firehose(**TOKENS, format="nanogpt", rank=rank, world_size=3)
        dataset.load_state_dict(state)
        for batch in dataset:
            got += zip(batch["position"].tolist(), batch["x"].tolist(), strict=True)
    whole = firehose(**TOKENS, format="nanogpt")
    rows = [pair for b in whole for pair in zip(b["position"].tolist(), b["x"].tolist(), strict=True)]
    assert sorted(got) == rows


def test_rows_come_one_by_one_without_a_batch_size(firehose: Any):
    rows = list(firehose(view="tokens", seq_len=32, format="hf"))
    assert rows[0]["input_ids"].shape == rows[0]["labels"].shape == (32,)
    assert [row["position"] for row in rows] == list(range(len(rows)))
    assert (
        firehose(view="tokens", seq_len=32, format="hf").as_map()[3]["input_ids"].tolist()
        == rows[3]["input_ids"].tolist()
    )


def same(row: Any) -> Any:
    """A transform that changes nothing."""
    return row


@pytest.mark.parametrize("form", FORMATS)
def test_rows_that_a_transform_leaves_alone_make_the_batch_of_no_transform(firehose: Any, form: str | None):
    plain, changed = firehose(**TOKENS, format=form), firehose(**TOKENS, format=form, transform=same)
    for ours, theirs in islice(zip(changed, plain, strict=True), 3):
        if form == "torchtitan":  # whose padding is last in a whole batch, and last of each row here
            (fields, labels), (others, wanted) = ours, theirs
            assert labels[labels != -100].tolist() == wanted[wanted != -100].tolist()
            for name in fields:
                assert fields[name][labels != -100].tolist() == others[name][wanted != -100].tolist()
        else:
            assert told(ours) == told(theirs)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("batch", [None, 4])
def test_rows_whose_transform_fails_are_left_out_and_named(
    firehose: Any, form: str | None, batch: int | None, caplog: pytest.LogCaptureFixture
):
    seen = iter(range(10**6))

    def transform(row: Any) -> Any:
        if next(seen) == 2:
            raise ValueError("no")
        return row

    dataset = firehose(**{**TOKENS, "batch_size": batch}, format=form, transform=transform, on_error="skip")
    first = next(iter(dataset)) if batch else list(islice(dataset, 4))
    assert dataset.stats()["skipped"] == 1
    assert "skipped position 2 of" in caplog.text
    if form == "torchtitan" and batch:
        assert first[0]["input"].shape == first[1].shape == (3 * 32,)


def test_plain_rows_are_int64_and_one_longer(firehose: Any):
    batch = next(iter(firehose(**TOKENS)))
    assert batch["tokens"].dtype == torch.int64 and batch["tokens"].shape == (4, 33)


def test_weights_of_packed_rows_are_shares_of_tokens(firehose: Any):
    dataset = firehose({"web": 1, "chat": 3}, **TOKENS, repeat=True)
    assert dataset.recipe.segments[0].weights == {"web": 1, "chat": 3}


def test_a_format_needs_the_tokens_view(firehose: Any):
    with pytest.raises(InvalidOptionError, match="packed tokens"):
        firehose(format="hf")
    with pytest.raises(InvalidOptionError, match="torchtitan"):
        firehose(view="tokens", format="keras")


def summed(packed: Packed) -> dict[str, torch.Tensor]:
    return {"sums": torch.tensor(packed.tokens.sum(axis=1).astype("int64"))}


def test_a_token_format_of_the_user_makes_the_batches(firehose: Any):
    batches = list(firehose(**TOKENS, format=TokenFormat(summed)))
    plain = list(firehose(**TOKENS))
    assert [b["sums"].tolist() for b in batches] == [b["tokens"].sum(1).tolist() for b in plain]
    assert [b["position"].tolist() for b in batches] == [b["position"].tolist() for b in plain]


def test_a_token_format_of_an_installed_package_has_a_name(
    firehose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    info = tmp_path / "sums_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sums-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[choline_data.token_formats]\nsums = sums_format:SUMS\ngone = no_such_module:X\nodd = sums_format:torch\n"
    )
    (tmp_path / "sums_format.py").write_text(
        "import torch\n"
        "from choline_data.tokens.trainer_formats import TokenFormat\n"
        "SUMS = TokenFormat(lambda packed: {'sums': torch.tensor(packed.tokens.sum(axis=1).astype('int64'))})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, plain = firehose(**TOKENS, format="sums"), firehose(**TOKENS)
    assert [b["sums"].tolist() for b in mine] == [b["tokens"].sum(1).tolist() for b in plain]
    with pytest.raises(InvalidOptionError, match="'gone' of sums-package cannot be imported"):
        firehose(**TOKENS, format="gone")
    with pytest.raises(InvalidOptionError, match="'odd' of sums-package is not a TokenFormat"):
        firehose(**TOKENS, format="odd")


def words_tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "<|endoftext|>": 1, "the": 2, "web": 3}
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return engine


def test_a_tokenizer_object_gives_the_rows_of_its_file(firehose: Any, tmp_path: Path):
    engine = words_tokenizer()
    engine.save(str(tmp_path / "words.json"))
    by_object, by_file = (list(firehose(**TOKENS, tokenizer=t)) for t in (engine, str(tmp_path / "words.json")))
    assert [b["tokens"].tolist() for b in by_object] == [b["tokens"].tolist() for b in by_file]
    assert max(int(b["tokens"].max()) for b in by_object) <= 3


def test_a_fast_tokenizer_of_transformers_is_its_inner_tokenizer(firehose: Any):
    transformers = pytest.importorskip("transformers")
    engine = words_tokenizer()
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=engine, unk_token="[UNK]")
    ours, theirs = firehose(**TOKENS, tokenizer=wrapped), firehose(**TOKENS, tokenizer=engine)
    assert [b["tokens"].tolist() for b in ours] == [b["tokens"].tolist() for b in theirs]


def test_an_object_that_is_no_tokenizer_is_refused(firehose: Any):
    with pytest.raises(InvalidOptionError, match="can't be used as a tokenizer"):
        firehose(**TOKENS, tokenizer=object())


def test_an_encoding_of_the_user_is_not_taken_for_the_known_one_of_its_name(firehose: Any):
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([n]): n for n in range(256)}
    mine = tiktoken.Encoding("my-encoding", pat_str=r".", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256})
    with pytest.raises(InvalidOptionError, match="'my-encoding' is not one of tiktoken's own"):
        firehose(**TOKENS, tokenizer=mine)
