"""Batches with a token budget: never above the budget, the same stream for every reader, and exact resume at any place."""

from __future__ import annotations

import json
from itertools import chain, islice, zip_longest
from typing import Any

import pytest
from tests.client.conftest import MIX, positions
from tests.conftest import Shelf
from tests.served import Served
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.client import FirehoseDataset
from choline_data.errors import InvalidCursorError, InvalidOptionError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
BUDGET = 60


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """200 texts of 0 to 200 bytes and 100 chats; makes a finite dataset of them."""
    shelf = Shelf(tmp_path_factory.mktemp("uneven") / "home")
    shelf.add("web", {"text": ["x" * (n * 37 % 200) for n in range(200)]})
    turns = [
        [{"role": "user", "content": "q" * (n % 50)}, {"role": "assistant", "content": "a" * n}] for n in range(100)
    ]
    shelf.add("chat", {"turns": turns}, kind="chat")
    mix = {"web": 2, "chat": 1}
    options = {"home": shelf.home.location, "repeat": False, "batch_tokens": BUDGET}
    return lambda **more: FirehoseDataset(more.pop("mix", mix), **{**options, **more})


def tokens(batch: Any) -> list[int]:
    """Returns the approximate number of tokens of each sample in a batch, computed here without the package."""
    rows = zip(batch["text"], batch["turns"], strict=True)
    sizes = [len(text or "") + sum(len(t["content"]) for t in turns or ()) for text, turns in rows]
    return [max(-(-size * 10 // 43), 1) for size in sizes]


def test_no_batch_is_over_the_budget_and_few_are_far_below(uneven: Any):
    batches = list(uneven())
    assert positions(batches) == list(range(300))
    sums = [sum(tokens(batch)) for batch in batches]
    assert max(sums) <= BUDGET
    assert all(a + tokens(b)[0] > BUDGET for a, b in zip(sums, batches[1:], strict=False))  # not one more fits


def test_a_sample_over_the_budget_comes_alone(uneven: Any):
    batches = list(uneven(batch_tokens=10))
    assert positions(batches) == list(range(300))
    assert all(sum(tokens(batch)) <= 10 or len(batch["id"]) == 1 for batch in batches)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_take_equally_many_samples_of_each_step(uneven: Any, world: int):
    ranks = [list(uneven(rank=r, world_size=world)) for r in range(world)]
    steps = list(zip_longest(*ranks))
    assert positions(batch for step in steps for batch in step if batch is not None) == list(range(300))
    for step in steps[:-1]:
        assert len({len(batch["id"]) for batch in step}) == 1
    assert max(sum(tokens(batch)) for batch in chain.from_iterable(ranks)) <= BUDGET


@pytest.mark.parametrize(("last", "count"), [("drop", 296), ("wrap", 304)])
def test_all_ranks_make_equally_many_steps_where_that_is_asked_for(uneven: Any, last: str, count: int):
    ranks = [list(uneven(rank=r, world_size=8, last_batch=last)) for r in range(8)]
    assert len({len(rank) for rank in ranks}) == 1
    assert sorted(chain.from_iterable(map(positions, ranks))) == sorted(p % 300 for p in range(count))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_give_the_batches_of_no_workers(uneven: Any, workers: int):
    wanted = [batch["position"].tolist() for batch in uneven()]
    got = [batch["position"].tolist() for batch in DataLoader(uneven(), batch_size=None, num_workers=workers)]
    assert got == wanted


def test_a_state_resumes_at_every_batch_and_with_other_ranks(uneven: Any):
    whole = list(uneven())
    for cut in range(0, len(whole), 5):
        first = uneven()
        got = positions(islice(first, cut))
        state = json.loads(json.dumps(first.state_dict()))
        ranks = []
        for rank in range(3):
            again = uneven(rank=rank, world_size=3)
            again.load_state_dict(state)
            ranks += positions(again)
        assert got + sorted(ranks) == list(range(300))


@pytest.mark.parametrize(("workers", "others"), [(0, 2), (2, 0), (2, 2), (2, 3)])
@pytest.mark.parametrize("count", [0, 1, 8])
def test_states_of_loaders_move_between_worker_counts(uneven: Any, workers: int, others: int, count: int):
    loader = uneven().loader(num_workers=workers)
    got = positions(islice(iter(loader), count))
    again = uneven().loader(num_workers=others)
    again.load_state_dict(loader.state_dict())
    assert got + positions(again) == list(range(300))

    stateful = StatefulDataLoader(uneven(), batch_size=None, num_workers=workers)
    got = positions(islice(iter(stateful), count))
    state = stateful.state_dict()
    if workers == others:
        same = StatefulDataLoader(uneven(), batch_size=None, num_workers=workers)
        same.load_state_dict(state)
        assert got + positions(same) == list(range(300))
    dataset = uneven()
    dataset.load_state_dict(state)
    assert got + positions(DataLoader(dataset, batch_size=None, num_workers=others)) == list(range(300))


def test_steps_between_snapshots_are_not_guessed(uneven: Any):
    loader = StatefulDataLoader(uneven(), batch_size=None, num_workers=2, snapshot_every_n_steps=5)
    batches = iter(loader)
    for _ in range(7):
        next(batches)
    with pytest.raises(InvalidCursorError, match="snapshot_every_n_steps=1"):
        uneven().load_state_dict(loader.state_dict())


def test_a_server_gives_the_same_batches(home: Any, server: Served):
    options = {"repeat": False, "batch_tokens": 20, "rank": 1, "world_size": 2}
    here, there = FirehoseDataset(MIX, home=home, **options), FirehoseDataset(MIX, server=server.address, **options)
    assert [b["position"].tolist() for b in there] == [b["position"].tolist() for b in here]


def test_bad_samples_leave_the_others_of_their_batch(uneven: Any):
    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["position"] % 10 == 3:
            raise ValueError("no")
        return sample

    good = {position for position in range(300) if position % 10 != 3}
    assert set(positions(uneven(transform=transform, on_error="skip"))) == good


def test_what_a_budget_cannot_answer_says_why(uneven: Any):
    with pytest.raises(TypeError, match="batch_tokens"):
        len(uneven())
    with pytest.raises(InvalidOptionError, match="without batch_tokens"):
        uneven().explain(3)
    with pytest.raises(InvalidOptionError, match="one of them"):
        uneven(batch_size=4)
    with pytest.raises(InvalidOptionError, match="Set it once"):
        uneven().loader(batch_size=4)
    with pytest.raises(InvalidOptionError, match="batch_size=None"):
        next(iter(DataLoader(uneven(), batch_size=4)))


def test_a_budget_of_packed_rows_is_a_number_of_rows(firehose: Any):
    dataset = firehose(view="tokens", seq_len=32, format="nanogpt", batch_tokens=100)
    assert next(iter(dataset))["x"].shape == (3, 32)
    with pytest.raises(InvalidOptionError, match="less than one row"):
        firehose(view="tokens", seq_len=32, batch_tokens=31)
