"""One stream wherever it is read: world x workers x start method x place, one digest of ids. `make exhaustive` runs them all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, zip_longest
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from choline_data.client import FirehoseDataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
GLOBAL_BATCH = 24
SAMPLES = 240
WORLDS = (1, 2, 3, 8)


def rank_of(make: Callable[..., FirehoseDataset], rank: int, world: int) -> FirehoseDataset:
    """Returns the part of the global batches that one rank reads."""
    return make(rank=rank, world_size=world, batch_size=GLOBAL_BATCH // world, max_samples=SAMPLES)


def digest(ranks: Iterable[Iterable[Any]]) -> str:
    """Of the ids by global step: each rank's batch of it in turn."""
    found = hashlib.sha256()
    for batch in chain.from_iterable(zip_longest(*ranks)):
        found.update(b"".join(batch["id"]))
    return found.hexdigest()


@pytest.fixture
def wanted(firehose: Any) -> str:
    """The digest of a plain loop over samples one by one."""
    return hashlib.sha256(b"".join(sample["id"] for sample in firehose(max_samples=SAMPLES))).hexdigest()


@pytest.mark.parametrize("place", ["firehose", "remote"])
@pytest.mark.parametrize("world", WORLDS)
def test_ranks_make_the_same_global_steps(request: pytest.FixtureRequest, wanted: str, world: int, place: str):
    make = request.getfixturevalue(place)
    assert digest(DataLoader(rank_of(make, rank, world), batch_size=None) for rank in range(world)) == wanted


@pytest.mark.parametrize("place", ["firehose", "remote"])
@pytest.mark.parametrize("context", ["fork", pytest.param("forkserver", marks=pytest.mark.exhaustive)])
def test_so_do_workers_of_ranks(request: pytest.FixtureRequest, wanted: str, context: str, place: str):
    """Three loaders at once, with two workers each."""
    make = request.getfixturevalue(place)
    settings = {"batch_size": None, "num_workers": 2, "multiprocessing_context": context}
    assert digest(DataLoader(rank_of(make, rank, 3), **settings) for rank in range(3)) == wanted


class InTurn(IterableDataset):  # type: ignore[misc]
    """One dataset after another, the next with each iteration: persistent workers import torch once for all of them."""

    def __init__(self, datasets: list[FirehoseDataset]) -> None:
        self.datasets = datasets
        self.turn = 0

    def __iter__(self) -> Iterator[Any]:
        self.turn += 1
        return iter(self.datasets[self.turn - 1])


@pytest.mark.parametrize("place", ["firehose", "remote"])
@pytest.mark.parametrize("workers", [2, *(pytest.param(count, marks=pytest.mark.exhaustive) for count in (1, 4))])
@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_so_does_every_combination(request: pytest.FixtureRequest, wanted: str, context: str, workers: int, place: str):
    """Each world size, by workers of each number, start method and place."""
    make = request.getfixturevalue(place)
    ranks = [(rank, world) for world in WORLDS for rank in range(world)]
    turns = InTurn([rank_of(make, *rank) for rank in ranks])
    settings = {"num_workers": workers, "multiprocessing_context": context, "persistent_workers": True}
    loader = DataLoader(turns, batch_size=None, **settings)
    read = {rank: list(loader) for rank in ranks}
    found = {world: digest(read[rank, world] for rank in range(world)) for world in WORLDS}
    assert found == dict.fromkeys(WORLDS, wanted)
