"""An iteration that was left: an endless stream continues there, a finite one starts a new pass."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from tests.client.conftest import positions
from torch.utils.data import DataLoader

from choline_data.client import collate
from choline_data.errors import InvalidOptionError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]


def thrice(batches: Any) -> list[int]:
    """The positions of three iterations, each left after two batches, as `for … break` leaves them."""
    got = []
    for _ in range(3):
        for number, batch in enumerate(batches):
            got += positions([batch])
            if number == 1:
                break
    return got


@pytest.mark.parametrize("batch", [None, 8])
def test_an_endless_dataset_continues_where_it_was_left(firehose: Any, batch: int | None):
    dataset = firehose(repeat=True, batch_size=batch)
    assert thrice(dataset) == list(range(6 * (batch or 1)))
    assert dataset.state_dict()["position"] == 6 * (batch or 1)


def test_a_finite_dataset_starts_a_new_pass(firehose: Any):
    assert thrice(firehose(batch_size=8)) == 3 * list(range(16))
    assert thrice(firehose(batch_size=8, repeat=True, max_samples=900)) == 3 * list(range(16))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_continues_after_the_last_batch_that_the_loop_received(firehose: Any, workers: int, persistent: bool):
    loader = firehose(repeat=True, batch_size=8).loader(num_workers=workers, persistent_workers=persistent)
    assert thrice(loader) == list(range(48))
    assert loader.state_dict()["position"] == 48
    loader.dataset.seek(0)
    assert thrice(loader) == list(range(48))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_begins_where_an_endless_dataset_was_left(firehose: Any, workers: int):
    dataset = firehose(repeat=True, batch_size=8)
    got = thrice(dataset) + thrice(dataset.loader(num_workers=workers))
    assert got == list(range(96))
    plain = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    assert positions(islice(plain, 2)) == list(range(48, 64))


def test_each_rank_continues_with_its_own_samples(firehose: Any):
    got = [thrice(firehose(repeat=True, batch_size=4, rank=rank, world_size=2)) for rank in (0, 1)]
    assert sorted(got[0] + got[1]) == list(range(48))


def test_a_data_loader_without_workers_continues(firehose: Any):
    assert thrice(DataLoader(firehose(repeat=True), batch_size=4, collate_fn=collate)) == list(range(24))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader_that_were_left_are_an_error_and_never_the_same_rows(
    firehose: Any, context: str, persistent: bool
):
    dataset = firehose(repeat=True, batch_size=8)
    options = {"batch_size": None, "num_workers": 2, "multiprocessing_context": context}
    loader = DataLoader(dataset, persistent_workers=persistent, **options)
    assert positions(islice(loader, 2)) == list(range(16))
    with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
        next(iter(loader))
    if not persistent:  # persistent workers cannot be told of a position
        with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
            next(iter(dataset))
        dataset.seek(16)
        assert positions(islice(loader, 2)) == list(range(16, 32))


def test_a_loaded_state_says_where_the_next_iteration_begins(firehose: Any):
    dataset = firehose(repeat=True, batch_size=8)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    state = dataset.state_dict()
    for _ in range(2):
        dataset.load_state_dict(state)
        assert positions(islice(loader, 2)) == list(range(16))


def test_a_stateful_loader_with_workers_continues_from_its_own_state(firehose: Any):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = stateful(firehose(repeat=True, batch_size=8), batch_size=None, num_workers=2)
    assert positions(islice(loader, 3)) == list(range(24))
    state = loader.state_dict()
    with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
        next(iter(loader))
    loader.load_state_dict(state)
    assert positions(islice(loader, 2)) == list(range(24, 40))


@pytest.mark.parametrize("dispatch", [False, True])
def test_a_batch_that_accelerate_holds_is_not_lost_without_a_word(firehose: Any, dispatch: bool):
    from accelerate.data_loader import prepare_data_loader

    dataset = firehose(repeat=True)
    plain = DataLoader(dataset, batch_size=8, collate_fn=lambda samples: collate(samples)["position"])
    loader = prepare_data_loader(
        plain, device=torch.device("cpu"), num_processes=1, dispatch_batches=dispatch, put_on_device=True
    )
    first = next(iter(loader))
    assert first.tolist() == list(range(8))
    with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
        next(iter(loader))
    dataset.seek(8)
    assert next(iter(loader)).tolist() == list(range(8, 16))
