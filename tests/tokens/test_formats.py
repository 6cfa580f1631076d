"""Each format against the construction of the trainer it is named for: the same fields, and the same loss to 1e-6."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from choline_data.errors import InvalidOptionError
from choline_data.mix import resolve_mix
from choline_data.store.windows import Store
from choline_data.tokens.packing import Documents, best_fit, concat, concat_rows
from choline_data.tokens.token_stream import TokenStream, token_options, token_rows
from choline_data.tokens.trainer_formats import FORMATS, row_seq_len, to_format, to_rows

TEXTS = ["one", "a second text", "", "three of them, longer than a row is", "4", "and the end"]
DOCUMENTS = [[*text.encode(), 256] for text in TEXTS]
FLAT = [token for document in DOCUMENTS for token in document]
T = 12


class Tiny(torch.nn.Module):
    """One layer of attention over tokens and positions; `seen` says which places each place sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.places = torch.nn.Embedding(258, 16), torch.nn.Embedding(64, 16)
        self.mixed, self.head = torch.nn.Linear(16, 48), torch.nn.Linear(16, 258)
        self.double()

    def forward(self, tokens: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        hidden = self.tokens(tokens) + self.places(positions)
        query, key, value = self.mixed(hidden).chunk(3, -1)
        return self.head(hidden + F.scaled_dot_product_attention(query, key, value, attn_mask=seen))


MODEL = Tiny()


def causal(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


def documents_apart(positions: Tensor) -> Tensor:
    """A causal mask in which a position of 0 begins a document that sees nothing before it."""
    document = (positions == 0).cumsum(-1)
    return causal(len(positions)) & (document[:, None] == document[None, :])


def loss_of(logits: Tensor, labels: Tensor, ignored: int = -100) -> float:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=ignored).item()


def shifted_inside(logits: Tensor, labels: Tensor) -> float:
    """The loss as Hugging Face's models reckon it: logits at t against labels at t + 1."""
    return loss_of(logits[..., :-1, :], labels[..., 1:])


def rows_of(shelf, name, *, texts=TEXTS, packing="concat", seq_len=T, **columns):
    shelf.add("web", columns or {"text": texts}, **({"kind": "chat"} if columns else {}))
    store = Store(shelf.home)
    options = token_options(seq_len=row_seq_len(name, seq_len), packing=packing)
    recipe = resolve_mix(
        "web", store, view="tokens", shuffle=False, repeat=False, options=options, rows_of=token_rows()
    )
    stream = TokenStream(store, recipe)
    return stream.read(0, stream.length)


def described(batch):
    fields = dict(batch) if isinstance(batch, dict) else {**batch[0], "labels": batch[1]}
    return {key: (value.dtype, tuple(value.shape)) for key, value in fields.items() if isinstance(value, Tensor)}


def test_the_fields_of_every_format_are_those_of_its_trainer(shelf):
    batch = rows_of(shelf, "nanogpt")
    count, long = batch.num_rows, torch.int64
    square = (long, (count, T))
    assert described(to_format("nanogpt", batch)) == {"x": square, "y": square}
    flat = (long, (count * T,))
    inputs, labels = to_format("torchtitan", batch)
    assert list(inputs) == ["input", "positions"]
    assert described((inputs, labels)) == {"input": flat, "positions": flat, "labels": flat}
    assert described(to_format("megatron", batch)) == {
        "tokens": square,
        "labels": square,
        "loss_mask": (torch.float32, (count, T)),
        "position_ids": square,
    }


def test_rows_of_the_formats_that_do_not_shift_have_seq_len_tokens(shelf):
    batch = rows_of(shelf, "hf")
    square = (torch.int64, (batch.num_rows, T))
    assert described(to_format("hf", batch)) == {"input_ids": square, "attention_mask": square, "labels": square}
    flat = to_format("hf_flat", batch)
    tokens = (torch.int64, (1, int(np.asarray(batch["length"]).sum())))
    ends = (torch.int32, (len(flat["cu_seq_lens_q"]),))
    assert described(flat) == {
        "input_ids": tokens,
        "labels": tokens,
        "position_ids": tokens,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
    }
    assert type(flat["max_length_q"]) is int and flat["max_length_q"] == flat["max_length_k"] <= T
    assert flat["cu_seq_lens_q"][0] == 0 and flat["cu_seq_lens_q"][-1] == tokens[1][1]


def test_nanogpt_has_the_loss_of_windows_of_the_flat_file(shelf):
    batch = to_format("nanogpt", rows_of(shelf, "nanogpt"))
    full = (len(FLAT) - 1) // T
    data = np.array(FLAT, np.uint16)
    offsets = [k * T for k in range(full)]
    x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in offsets])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in offsets])
    place = torch.arange(T).expand(full, T)
    theirs = loss_of(MODEL(x, place, causal(T)), y, -1)
    ours = loss_of(MODEL(batch["x"][:full], place, causal(T)), batch["y"][:full], -1)
    assert ours == pytest.approx(theirs, abs=1e-6)
    last = FLAT[full * T :]
    assert batch["x"][full].tolist()[: len(last)] == last and batch["y"][full].tolist() == [
        *last[1:],
        *[-1] * (T + 1 - len(last)),
    ]
    assert batch["y"].is_contiguous()  # nanoGPT calls .view(-1)


def shifted_documents(documents: list[list[int]], places: int) -> tuple[Tensor, Tensor, Tensor]:
    """torchtitan's way: each document is shifted by itself, then they are packed and padded."""
    tokens, labels, positions = [], [], []
    for document in documents:
        tokens += document[:-1]
        labels += document[1:]
        positions += range(len(document) - 1)
    pad = places - len(tokens)
    return (
        torch.tensor(tokens + [0] * pad),
        torch.tensor(labels + [-100] * pad),
        torch.tensor(positions + list(range(pad))),
    )


@pytest.mark.parametrize("packing", ["concat", "bfd"])
def test_torchtitan_has_the_loss_of_documents_shifted_before_they_are_packed(shelf, packing):
    texts = [text for text in TEXTS if len(text) < 30]
    batch = rows_of(shelf, "torchtitan", texts=texts, packing=packing, seq_len=40)
    inputs, labels = to_format("torchtitan", batch)
    pieces = [[p["row"] for p in row] for row in batch["pieces"].to_pylist()]
    order = [document for row in pieces for document in row]
    assert sorted(order) == list(range(len(texts)))
    tokens, targets, positions = shifted_documents([[*texts[d].encode(), 256] for d in order], 40 * batch.num_rows)
    assert torch.equal(inputs["input"], tokens)
    assert torch.equal(labels, targets)
    assert torch.equal(inputs["positions"], positions)
    theirs = loss_of(MODEL(tokens, positions, documents_apart(positions)), targets)
    ours = loss_of(MODEL(inputs["input"], inputs["positions"], documents_apart(inputs["positions"])), labels)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_hf_has_the_loss_of_padded_rows_whose_shift_is_in_the_model(shelf):
    batch = to_format("hf", rows_of(shelf, "hf"))
    size = len(batch["input_ids"])
    tokens = torch.zeros(size, T, dtype=torch.int64)
    labels = torch.full((size, T), -100)
    for row in range(size):
        held = torch.tensor(FLAT[row * (T - 1) : row * (T - 1) + T])
        tokens[row, : len(held)] = labels[row, : len(held)] = held
    place = torch.arange(T).expand(size, T)
    seen = causal(T) & ((labels != -100)[:, None, :] | torch.eye(T, dtype=torch.bool))
    mask = causal(T) & (batch["attention_mask"].bool()[:, None, :] | torch.eye(T, dtype=torch.bool))
    theirs = shifted_inside(MODEL(tokens, place, seen), labels)
    ours = shifted_inside(MODEL(batch["input_ids"], place, mask), batch["labels"])
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert batch["attention_mask"].sum() == (batch["labels"] != -100).sum()
    targets = batch["labels"][:, 1:]
    assert targets[targets != -100].tolist() == FLAT[1:]  # each token is a target once


def test_hf_flat_has_the_loss_of_documents_side_by_side_without_padding(shelf):
    texts = [text for text in TEXTS if len(text) < 30]
    held = rows_of(shelf, "hf_flat", texts=texts, packing="bfd", seq_len=40)
    batch = to_format("hf_flat", held)
    order = [p["row"] for row in held["pieces"].to_pylist() for p in row]
    documents = [[*texts[d].encode(), 256] for d in order]
    tokens = torch.tensor([[t for document in documents for t in document]])
    labels = torch.tensor([[t for document in documents for t in [-100, *document[1:]]]])
    positions = torch.tensor([[p for document in documents for p in range(len(document))]])
    assert torch.equal(batch["input_ids"], tokens) and torch.equal(batch["labels"], labels)
    assert torch.equal(batch["position_ids"], positions)
    assert batch["cu_seq_lens_q"].tolist() == np.cumsum([0, *map(len, documents)]).tolist()
    assert batch["max_length_q"] == max(map(len, documents))
    theirs = np.mean(
        [loss_of(MODEL(torch.tensor(d), torch.arange(len(d)), causal(len(d)))[:-1], torch.tensor(d[1:])) * (len(d) - 1)
         for d in documents if len(d) > 1]
    ) * sum(len(d) > 1 for d in documents) / sum(len(d) - 1 for d in documents)  # fmt: skip
    seen = documents_apart(batch["position_ids"][0])
    ours = shifted_inside(MODEL(batch["input_ids"], batch["position_ids"], seen), batch["labels"])
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_megatron_has_the_loss_of_rows_of_one_token_more_under_their_mask(shelf):
    batch = to_format("megatron", rows_of(shelf, "megatron"))
    size = len(batch["tokens"])
    total = weight = 0.0
    for row in range(size):
        held = FLAT[row * T : row * T + T + 1]
        padded = torch.tensor(held + [0] * (T + 1 - len(held)))
        mask = torch.tensor([float(place + 1 < len(held)) for place in range(T)])
        each = F.cross_entropy(MODEL(padded[:-1], torch.arange(T), causal(T)), padded[1:], reduction="none")
        total, weight = total + (each * mask).sum().item(), weight + mask.sum().item()
    logits = MODEL(batch["tokens"], batch["position_ids"], causal(T))
    each = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="none")
    mask = batch["loss_mask"].flatten()
    assert (each * mask).sum().item() / mask.sum().item() == pytest.approx(total / weight, abs=1e-6)


TURNS = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]]
SAID = b"hello<|im_end|>"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_says_where_the_assistant_speaks(shelf, name):
    batch = to_format(name, rows_of(shelf, name, turns=TURNS, seq_len=80))
    match name:
        case "nanogpt":
            told = batch["y"][batch["assistant_mask"]]
        case "torchtitan":
            told = batch[1][batch[1] != -100]
        case "megatron":
            told = batch["labels"][batch["loss_mask"] == 1]
        case _:
            told = batch["labels"][batch["assistant_mask"]]
            assert batch["assistant_mask"].shape == batch["labels"].shape
    assert bytes(told.tolist()) == SAID


def test_texts_beside_chats_count_whole(shelf):
    shelf.add("chat", {"turns": TURNS}, kind="chat")
    shelf.add("web", {"text": ["plain"]})
    store = Store(shelf.home)
    options = token_options(seq_len=80)
    recipe = resolve_mix("web,chat", store, view="tokens", repeat=False, options=options, rows_of=token_rows())
    batch = to_format("megatron", TokenStream(store, recipe).read(0, 2))
    told = sorted(
        bytes(t % 256 for t in row[m == 1].tolist()) for row, m in zip(batch["labels"], batch["loss_mask"], strict=True)
    )
    assert told == [SAID, b"lain\0"]


def test_rows_one_by_one_are_the_rows_of_the_batch(shelf):
    batch = rows_of(shelf, "nanogpt")
    whole = to_format("nanogpt", batch)
    rows = to_rows("nanogpt", batch, np.arange(batch.num_rows) + 5, ("web",))
    assert torch.equal(torch.stack([row["x"] for row in rows]), whole["x"])
    assert [row["position"] for row in rows] == list(range(5, 5 + batch.num_rows)) and rows[0]["dataset"] == "web"
    alone = to_rows("hf_flat", batch, np.arange(batch.num_rows), ("web",))
    assert torch.equal(torch.cat([row["input_ids"] for row in alone], 1), to_format("hf_flat", batch)["input_ids"])


def test_a_format_that_is_not_there_names_those_that_are(shelf):
    with pytest.raises(InvalidOptionError, match="hf_flat"):
        to_format("llama", rows_of(shelf, "nanogpt"))
    with pytest.raises(InvalidOptionError, match="no target"):
        row_seq_len("hf", 1)


class Lengths:
    """What `Documents` needs of an array: where each document begins."""

    def __init__(self, lengths: list[int]) -> None:
        self.starts = np.cumsum([0, *lengths]).astype(np.int64)


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda held: sum(held) > 1)


@given(lengths, st.integers(1, 20), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
def test_concat_conserves_every_token(held, seq_len, some):
    chosen = np.arange(0, len(held), 2) if some else None
    documents = Documents(Lengths(held), chosen)
    if documents.tokens < 2:
        return
    rows = concat(documents, np.arange(concat_rows(documents, seq_len)), seq_len)
    got = []
    for row in range(len(rows.offsets) - 1):
        pieces = range(int(rows.offsets[row]), int(rows.offsets[row + 1]))
        tokens = [t for p in pieces for t in range(rows.start[p], rows.start[p] + rows.length[p])]
        assert 2 <= len(tokens) <= seq_len + 1
        got += tokens if row == 0 else tokens[1:]
    starts = Lengths(held).starts
    kept = range(len(held)) if chosen is None else chosen.tolist()
    assert got == [t for d in kept for t in range(starts[d], starts[d + 1])]


@given(lengths, st.integers(1, 20))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
def test_best_fit_keeps_what_fits_whole_and_conserves_every_token(held, seq_len):
    rows = best_fit(Documents(Lengths(held)), seq_len).rows
    tokens = sorted(t for s, n in zip(rows.start, rows.length, strict=True) for t in range(s, s + n))
    assert tokens == list(range(sum(held)))
    pieces = np.bincount(rows.document, minlength=len(held))
    assert all(n <= 1 for n, size in zip(pieces, held, strict=True) if size <= seq_len + 1)


@pytest.mark.parametrize("name", ["torchtitan", "hf_flat"])
@pytest.mark.parametrize("packing", ["concat", "bfd"])
def test_no_target_lies_in_another_document_and_positions_are_contiguous(shelf, name, packing):
    """Each document is one letter, so a target in another one would be seen."""
    texts = [chr(97 + n) * (n * 7 % 23 + 1) for n in range(26)]
    batch = to_format(name, rows_of(shelf, name, texts=texts, packing=packing))
    if name == "torchtitan":
        tokens, positions, labels = batch[0]["input"], batch[0]["positions"], batch[1]
    else:
        tokens, positions, labels = batch["input_ids"][0][:-1], batch["position_ids"][0], batch["labels"][0][1:]
    real = labels != -100
    assert bool(((labels == tokens) | (labels == 256))[real].all())
    assert not bool((tokens[real] == 256).any())
    steps = positions[1:] - positions[:-1]
    assert bool(((steps == 1) | (positions[1:] == 0)).all())
