"""Each pass over a finite stream has its own order: the same one for every reader, exact to resume, and chosen by set_epoch."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.client.conftest import MIX, ids
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.client import FirehoseDataset, collate
from choline_data.errors import InvalidMixError, InvalidOptionError
from choline_data.order.recipe import Recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
ROWS = 450


@pytest.fixture
def passes(firehose: Any) -> list[list[bytes]]:
    """The ids of the first four passes, in order."""
    dataset = firehose()
    return [ids(dataset) for _ in range(4)]


def test_each_pass_has_every_sample_in_an_order_of_its_own(passes: list[list[bytes]]):
    assert len({tuple(order) for order in passes}) == 4
    assert {len(order) for order in passes} == {ROWS}
    assert len({frozenset(order) for order in passes}) == 1


def test_the_first_pass_is_that_of_the_recipe_and_later_passes_have_recipes_too(firehose: Any, passes: list[Any]):
    recipe = firehose().recipe
    assert json.loads(recipe.to_json())["version"] == 1
    for number in (0, 1, 3):
        alone = firehose(Recipe.from_json(recipe.in_pass(number).to_json()))
        assert ids(alone) == passes[number]
        if number == 1:
            assert ids(alone) == passes[2]


@pytest.mark.parametrize(
    ("options", "differ"),
    [
        ({"reshuffle": False}, False),
        ({"max_samples": ROWS - 1}, False),
        ({"max_samples": ROWS}, True),
        ({"max_samples": ROWS - 1, "reshuffle": True}, True),
        ({"shuffle": False}, False),
        ({"repeat": True, "max_samples": 40}, False),
        ({"batch_size": 8, "last_batch": "wrap"}, True),
        ({"batch_tokens": 64}, True),
        ({"view": "text"}, True),
    ],
)
def test_which_streams_have_an_order_for_each_pass(firehose: Any, options: dict[str, Any], differ: bool):
    dataset = firehose(**options)
    one, other = ([(s["text"] if "text" in s else s["id"]) for s in dataset] for _ in range(2))
    assert (one != other) is differ
    assert dataset.state_dict()["version"] == 1 + differ


def test_a_source_that_leaves_rows_out_gives_the_same_rows_in_each_pass(firehose: Any):
    for epochs, differ in ((0.5, False), (1, True), (1.5, True)):
        dataset = firehose({"web": {"weight": 1, "max_epochs": epochs}})
        one, other = ([s["id"] for s in dataset] for _ in range(2))
        assert (one != other) is differ
        assert set(one) == set(other)


@pytest.mark.parametrize("options", [{"repeat": True}, {"shuffle": False}])
def test_an_order_for_each_pass_is_refused_where_it_has_no_meaning(firehose: Any, options: dict[str, Any]):
    with pytest.raises(InvalidOptionError, match="reshuffle"):
        firehose(reshuffle=True, **options)


def test_a_step_that_is_filled_up_repeats_the_first_samples_of_its_own_pass(firehose: Any, passes: list[list[bytes]]):
    dataset = firehose(batch_size=8, last_batch="wrap")
    for order in passes[:3]:
        assert ids(dataset) == order + order[:6]


def test_the_ranks_of_a_pass_have_each_sample_once(firehose: Any, passes: list[list[bytes]]):
    ranks = [firehose(rank=rank, world_size=3) for rank in range(3)]
    for order in passes[:3]:
        got = [ids(rank) for rank in ranks]
        assert [got[number % 3][number // 3] for number in range(ROWS)] == order


def test_packed_rows_of_tokens_have_an_order_for_each_pass(firehose: Any, remote: Any):
    orders = []
    for make in (firehose, remote):
        dataset = make({"web": 1}, view="tokens", seq_len=64)
        orders.append([[row["tokens"].tolist() for row in dataset] for _ in range(3)])
    assert orders[0] == orders[1]
    assert len({str(order) for order in orders[0]}) == 3
    assert len({str(sorted(order)) for order in orders[0]}) == 1


def test_a_server_gives_the_same_passes(remote: Any, passes: list[list[bytes]]):
    dataset = remote()
    assert [ids(dataset) for _ in range(3)] == passes[:3]
    loader = remote(batch_size=8).loader(num_workers=2)
    assert [ids(loader) for _ in range(3)] == passes[:3]


def test_software_that_knows_one_order_only_refuses_the_recipe_of_a_later_pass(firehose: Any):
    """Software that reads version 1 compares the version; this software reads versions 1 and 2."""
    body = json.loads(firehose().recipe.in_pass(2).to_json())
    assert (body["version"], body["epoch"]) == (2, 2)
    with pytest.raises(InvalidMixError, match="version 3"):
        Recipe.from_json(json.dumps({**body, "version": 3}))


def test_explain_names_the_rows_of_every_pass(firehose: Any):
    dataset = firehose(batch_size=9)
    for epoch in range(3):
        for step, batch in enumerate(dataset):
            rows = [row["row"] for row in dataset.explain(step)]
            assert rows == [origin["row"] for origin in batch["origin"]]
            assert rows == [row["row"] for row in firehose(batch_size=9).explain(step, epoch)]


def test_peek_goes_on_into_the_next_pass(firehose: Any, passes: list[list[bytes]]):
    dataset = firehose()
    list(dataset)
    dataset.seek(ROWS - 5)
    assert list(dataset.peek(12)["id"]) == passes[1][-5:] + passes[2][:7]


# --- States


@pytest.mark.parametrize("count", [0, 1, 30, 56])
@pytest.mark.parametrize("kind", ["dataset", "loader", "workers"])
def test_a_state_of_a_later_pass_resumes_exactly(firehose: Any, passes: list[Any], kind: str, count: int):
    def made() -> Any:
        dataset = firehose(batch_size=8)
        return dataset if kind == "dataset" else dataset.loader(num_workers=2 if kind == "workers" else 0)

    saved = made()
    assert ids(saved) + ids(saved) == passes[0] + passes[1]
    got = ids(islice(saved, count))
    state = json.loads(json.dumps(saved.state_dict()))
    again = made()
    again.load_state_dict(state)
    assert got + ids(again) == passes[2]
    assert ids(again) == passes[3]
    others = [firehose(batch_size=3, rank=rank, world_size=2) for rank in (0, 1)]
    for other in others:
        other.load_state_dict(state)
    assert sorted([*got, *ids(others[0]), *ids(others[1])]) == sorted(passes[2])


def test_a_state_in_a_later_pass_of_version_1_goes_on_in_the_old_order(firehose: Any, passes: list[list[bytes]]):
    old = firehose(reshuffle=False)
    list(old)
    assert ids(islice(old, 100)) == passes[0][:100]
    state = old.state_dict()
    assert (state["version"], state["epoch"], state["position"]) == (1, 1, 100)
    dataset = firehose()
    dataset.load_state_dict(state)
    assert dataset.state_dict()["version"] == 1
    assert ids(dataset) == passes[0][100:]
    assert ids(dataset) == passes[0]
    with pytest.raises(InvalidOptionError, match="reshuffle=False"):
        firehose(reshuffle=True).load_state_dict(state)


def test_a_state_in_a_later_pass_is_followed_or_refused_by_what_reads_another_order(firehose: Any, passes: list[Any]):
    saved = firehose()
    list(saved)
    batches = iter(saved)
    got = ids(islice(batches, 100))
    cut = firehose(max_samples=400)
    cut.load_state_dict(saved.state_dict())
    assert got + ids(cut) == passes[1][:400]
    with pytest.raises(InvalidOptionError, match="reshuffle=True"):
        firehose(reshuffle=False).load_state_dict(saved.state_dict())


def test_bans_hold_in_every_pass(firehose: Any, passes: list[list[bytes]]):
    dataset = firehose(batch_size=8)
    banned = passes[0][:3]
    dataset.ban(banned)
    for order in passes[:3]:
        assert ids(dataset) == [one for one in order if one not in banned]


def test_a_changed_mix_keeps_the_order_of_the_running_pass(firehose: Any, passes: list[list[bytes]]):
    dataset = firehose()
    list(dataset)
    samples = iter(dataset)
    got = ids(islice(samples, 100))
    dataset.change_mix({"web": 1, "code": 1, "chat": 1})
    got += ids(samples)
    assert got[:100] == passes[1][:100]
    assert sorted(got) == sorted(passes[1])


# --- Loaders of others


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_workers_of_another_loader_go_from_pass_to_pass(
    firehose: Any, passes: list[Any], kind: Any, context: str, persistent: bool
):
    options = {"num_workers": 2, "multiprocessing_context": context, "persistent_workers": persistent}
    dataset = firehose(batch_size=8)
    loader = kind(dataset, batch_size=None, **options)
    assert ids(loader) == passes[0]
    assert ids(loader) == passes[1]
    assert ids(islice(loader, 3)) == passes[2][:24]  # a pass that was left begins again, whatever was read ahead
    assert ids(loader) == passes[2]
    dataset.set_epoch(1)
    assert ids(loader) == passes[1]
    dataset.seek(400)
    assert ids(loader) == passes[2][400:]
    assert ids(loader) == passes[3]


def test_a_loop_that_ends_before_its_last_batch_begins_the_pass_again(firehose: Any, passes: list[list[bytes]]):
    """Two workers have sent all of their batches when the loop is left. Only the loop knows that it is not at the end."""
    loader = DataLoader(firehose(batch_size=75), batch_size=None, num_workers=2, persistent_workers=True)
    assert ids(islice(loader, 5)) == passes[0][:375]
    assert ids(islice(loader, 6)) == passes[0]
    assert ids(loader) == passes[0]
    assert ids(loader) == passes[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("count", [20, None])
def test_a_stateful_loader_resumes_in_a_later_pass(
    firehose: Any, passes: list[Any], workers: int, persistent: bool, count: int | None
):
    if persistent and not workers:
        pytest.skip("There are no workers.")
    options = {"batch_size": None, "num_workers": workers, "persistent_workers": persistent}
    loader = StatefulDataLoader(firehose(batch_size=8), **options)
    assert ids(loader) == passes[0]
    got = ids(loader) if count is None else ids(islice(loader, count))
    again = StatefulDataLoader(firehose(batch_size=8), **options)
    again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    if count is not None:
        assert got + ids(again) == passes[1]
    assert ids(again) == passes[2]
    assert ids(again) == passes[3]


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_workers_that_persist_refuse_a_change_that_does_not_reach_them(firehose: Any, passes: list[Any], kind: Any):
    dataset = firehose(batch_size=8)
    loader = kind(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    assert ids(loader) == passes[0]
    dataset.load_state_dict(firehose(batch_size=8).state_dict())
    assert ids(loader) == passes[0]
    dataset.seek(0)
    dataset.ban(passes[0][:1])
    with pytest.raises(InvalidOptionError, match="persist"):
        ids(loader)
    again = kind(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    assert ids(again) == [one for one in passes[1] if one != passes[0][0]]


# --- set_epoch


@pytest.mark.parametrize("kind", ["dataset", "loader", "workers", "persistent workers"])
def test_set_epoch_chooses_the_pass(firehose: Any, passes: list[list[bytes]], kind: str):
    workers = 2 if "workers" in kind else 0
    dataset = firehose(batch_size=8)
    reader = dataset if kind == "dataset" else dataset.loader(num_workers=workers, persistent_workers="p" in kind)
    for epoch in (2, 0, 0, 1, 2, 3):
        reader.set_epoch(epoch)
        assert reader.state_dict()["epoch"] == epoch
        assert ids(reader) == passes[epoch]
    with pytest.raises(InvalidOptionError, match="count from 0"):
        reader.set_epoch(-1)


def test_set_epoch_keeps_a_position_that_was_sought_and_leaves_a_pass_that_began(firehose: Any, passes: list[Any]):
    dataset = firehose()
    dataset.seek(400)
    dataset.set_epoch(2)
    assert ids(islice(dataset, 10)) == passes[2][400:410]
    dataset.set_epoch(3)
    assert ids(dataset) == passes[3]


@pytest.mark.parametrize("position", [0, 160])
def test_set_epoch_never_leaves_the_pass_of_a_loaded_state(firehose: Any, passes: list[list[bytes]], position: int):
    state = {**firehose(batch_size=8).state_dict(), "epoch": 2, "position": position}
    for reader in (firehose(batch_size=8), firehose(batch_size=8).loader(num_workers=0)):
        reader.load_state_dict(state)
        with pytest.raises(InvalidOptionError, match="Begin with epoch 2"):
            reader.set_epoch(0)
        reader.set_epoch(2)
        assert ids(reader) == passes[2][position:]
        reader.set_epoch(1)
        assert ids(reader) == passes[1]


def test_set_epoch_changes_nothing_where_all_passes_have_one_order(firehose: Any):
    for options in ({"repeat": True}, {"reshuffle": False}, {"max_samples": 100}):
        dataset = firehose(**options)
        batches = iter(dataset)
        next(batches)
        state = dataset.state_dict()
        dataset.set_epoch(5)
        assert dataset.state_dict() == state


# --- Accelerate and the Trainer


def prepared(dataset: Any, **options: Any) -> Any:
    from accelerate.data_loader import prepare_data_loader

    plain = DataLoader(dataset, batch_size=10, collate_fn=collate, num_workers=options.pop("num_workers", 0))
    return prepare_data_loader(plain, put_on_device=False, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_has_an_order_for_each_pass_and_the_same_one_on_each_rank(
    firehose: Any, passes: list[Any], workers: int
):
    options = {"num_processes": 2, "dispatch_batches": False, "num_workers": workers}
    ranks = [prepared(firehose(), process_index=rank, **options) for rank in (0, 1)]
    for order in passes[:3]:
        parts = [[list(batch["id"]) for batch in rank] for rank in ranks]
        both = [one for pair in zip(*parts, strict=True) for part in pair for one in part]
        assert both[:ROWS] == order


def test_accelerates_count_follows_a_loaded_state(firehose: Any, passes: list[list[bytes]]):
    dataset = firehose()
    loader = prepared(dataset, num_processes=1)
    assert ids(loader) == passes[0]
    dataset.load_state_dict({**firehose().state_dict(), "epoch": 2, "position": 50})
    assert ids(loader) == passes[2][50:]
    assert loader.iteration == 3
    assert ids(loader) == passes[3]


class Recorder(torch.nn.Module):
    """A model that learns nothing and records the rows that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[tuple[int, ...]] = []

    def forward(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        self.rows += map(tuple, row.tolist())
        return {"loss": self.weight.sum() * 0}


def _rows(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {"row": torch.tensor([list(sample["id"]) for sample in samples])}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_trainer_has_an_order_for_each_epoch_and_resumes_within_it(
    home: Path, tmp_path: Path, passes: list[Any], workers: int
):
    transformers = pytest.importorskip("transformers")

    def trainer(epochs: int) -> Any:
        settings = transformers.TrainingArguments(
            str(tmp_path / "out"),
            per_device_train_batch_size=45,
            num_train_epochs=epochs,
            use_cpu=True,
            report_to=[],
            save_steps=4,
            dataloader_num_workers=workers,
            disable_tqdm=True,
            remove_unused_columns=False,
            logging_strategy="no",
        )
        dataset = FirehoseDataset(MIX, home=home, repeat=False, seed=7)
        return transformers.Trainer(Recorder(), settings, train_dataset=dataset, data_collator=_rows)

    whole = trainer(3)
    whole.train()
    expected = [tuple(one) for order in passes[:3] for one in order]
    assert whole.model.rows == expected
    resumed = trainer(3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-16"))
    assert resumed.model.rows[-14 * 45 :] == expected[16 * 45 :]
