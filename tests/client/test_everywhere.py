"""One stream wherever it is read: world x workers x start method x place, one digest of ids. `make exhaustive` runs them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any

import pytest
from torch.utils.data import DataLoader

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
GLOBAL_BATCH = 24
SAMPLES = 240


def digest(make: Any, world: int, workers: int, context: str | None) -> str:
    """Of the ids by global step: each rank's batch of it in turn."""

    def rank(number: int) -> Iterator[Any]:
        options = {"rank": number, "world_size": world, "batch_size": GLOBAL_BATCH // world, "max_samples": SAMPLES}
        settings = {"num_workers": workers, "multiprocessing_context": context if workers else None}
        return iter(DataLoader(make(**options), batch_size=None, **settings))

    steps = zip_longest(*[rank(number) for number in range(world)])
    found = hashlib.sha256()
    for batch in chain.from_iterable(steps):
        found.update(b"".join(batch["id"]))
    return found.hexdigest()


@pytest.fixture
def wanted(firehose: Any) -> str:
    """The digest of a plain loop over samples one by one."""
    return hashlib.sha256(b"".join(sample["id"] for sample in firehose(max_samples=SAMPLES))).hexdigest()


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_make_the_same_global_steps(firehose: Any, remote: Any, wanted: str, world: int):
    assert digest(firehose, world, 0, None) == digest(remote, world, 0, None) == wanted


@pytest.mark.parametrize("context", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_so_do_workers_of_ranks(firehose: Any, remote: Any, wanted: str, context: str):
    assert digest(firehose, 3, 2, context) == digest(remote, 3, 2, context) == wanted


@pytest.mark.exhaustive
@pytest.mark.timeout(580)
@pytest.mark.parametrize("place", ["firehose", "remote"])
@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_so_does_every_combination(request: pytest.FixtureRequest, wanted: str, world: int, context: str, place: str):
    make = request.getfixturevalue(place)
    assert {workers: digest(make, world, workers, context) for workers in (1, 2, 4)} == dict.fromkeys((1, 2, 4), wanted)
