"""The order is the same for every reader: plain loops, ranks, workers, start methods."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.client.conftest import ids, positions
from torch.utils.data import DataLoader

from choline_data.client import FirehoseDataset, collate
from choline_data.client.passing.passes import Pass
from choline_data.errors import (
    InvalidMixError,
    InvalidOptionError,
    OutOfRangeError,
    UnavailableError,
    UnknownDatasetError,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def test_samples_are_dicts_with_id_dataset_position_and_the_fields(firehose: Any):
    samples = list(firehose("web"))
    assert len(samples) == 300
    assert sorted(s["text"] for s in samples) == sorted(f"page {n}" for n in range(300))
    first = samples[0]
    assert list(first) == ["id", "dataset", "kind", "text", "url", "origin", "position"]
    assert isinstance(first["id"], bytes)
    assert (first["dataset"], first["kind"], first["position"]) == ("web", "text", 0)
    assert first["origin"]["file"] == "web"
    assert first["url"] == f"https://e.org/{first['text'].removeprefix('page ')}"


def test_nested_fields_are_python_values(firehose: Any):
    sample = next(iter(firehose("chat", shuffle=False)))
    assert sample["turns"] == [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "a0"}]


def test_batches_are_dicts_of_tensors_and_lists(firehose: Any):
    batch = next(iter(firehose(batch_size=4)))
    assert isinstance(batch, dict)
    assert batch["position"].tolist() == [0, 1, 2, 3]
    assert isinstance(batch["text"], list)
    expected = collate([s for s, _ in zip(firehose(), range(4), strict=False)])
    assert list(batch) == list(expected)
    assert {k: v for k, v in batch.items() if k != "position"} == {k: v for k, v in expected.items() if k != "position"}


def test_tensors_of_a_batch_are_writable(firehose: Any):
    batch = next(iter(firehose(batch_size=4)))
    batch["position"] += 1
    assert batch["position"].tolist() == [1, 2, 3, 4]


def test_columns_leave_out_what_was_not_asked_for(firehose: Any):
    assert list(next(iter(firehose(columns=["text"])))) == ["id", "dataset", "text", "position"]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [None, 4])
def test_ranks_share_out_every_position_once(firehose: Any, world: int, batch: int | None):
    got = [positions(firehose(rank=r, world_size=world, batch_size=batch)) for r in range(world)]
    assert sorted(itertools.chain.from_iterable(got)) == list(range(450))
    if batch is None:
        assert got[1 % world][:3] == [1 % world, 1 % world + world, 1 % world + 2 * world]
    else:
        assert got[1 % world][: batch + 1] == [
            *range(1 % world * 4, 1 % world * 4 + 4),
            1 % world * 4 + 4 * world,
        ]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_a_global_step_is_the_same_for_every_world_size(firehose: Any, world: int):
    ranks = [iter(firehose(rank=r, world_size=world, batch_size=24 // world)) for r in range(world)]
    for step in range(5):
        assert list(itertools.chain.from_iterable(next(r)["position"].tolist() for r in ranks)) == list(
            range(24 * step, 24 * step + 24)
        )


@pytest.mark.parametrize("workers", [0, 1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_workers_give_the_order_of_no_workers(firehose: Any, workers: int):
    expected = ids(firehose())
    batched = DataLoader(firehose(batch_size=8), batch_size=None, num_workers=workers)
    assert ids(batched) == expected
    plain = DataLoader(firehose(), batch_size=8, num_workers=workers, collate_fn=collate)
    assert ids(plain) == expected
    alone = DataLoader(firehose(), batch_size=None, num_workers=workers)
    assert ids(alone) == expected


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_every_start_method_gives_the_same_order(firehose: Any, context: str):
    dataset = firehose(rank=1, world_size=2)
    loader = DataLoader(dataset, batch_size=8, num_workers=2, collate_fn=collate, multiprocessing_context=context)
    assert ids(loader) == ids(firehose(rank=1, world_size=2))


def test_workers_of_two_ranks_partition_the_stream_and_keep_each_ranks_order(firehose: Any):
    for rank in (0, 1):
        loader = DataLoader(firehose(rank=rank, world_size=2), batch_size=4, num_workers=2, collate_fn=collate)
        assert positions(loader) == list(range(rank, 450, 2))


def test_persistent_workers_give_a_whole_pass_each_time(firehose: Any):
    loader = DataLoader(firehose(batch_size=8), batch_size=None, num_workers=2, persistent_workers=True)
    assert positions(loader) == positions(loader) == list(range(450))


def test_a_loader_that_batches_batches_is_refused(firehose: Any):
    for workers in (0, 2):
        with pytest.raises(InvalidOptionError, match="batch_size=None"):
            list(DataLoader(firehose(batch_size=8), num_workers=workers))


def test_random_states_are_left_alone(firehose: Any):
    torch.manual_seed(1)
    random.seed(1)
    before = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    list(firehose(batch_size=8))
    assert before == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())


def test_len_is_exact_for_every_rank_and_batch_size(firehose: Any):
    for batch in (None, 1, 7, 450, 1000):
        for world in (1, 3):
            for rank in range(world):
                dataset = firehose(rank=rank, world_size=world, batch_size=batch)
                assert len(dataset) == sum(1 for _ in dataset)


def test_len_of_an_endless_stream_says_what_to_set(firehose: Any):
    with pytest.raises(TypeError, match="max_samples"):
        len(firehose(repeat=True))


def test_max_samples_ends_the_stream(firehose: Any):
    assert positions(firehose(repeat=True, max_samples=1000)) == list(range(1000))
    assert len(firehose(repeat=True, max_samples=1000, batch_size=16)) == 63


def test_a_last_batch_can_be_short_dropped_or_filled_from_the_beginning(firehose: Any):
    short = [positions(firehose(rank=r, world_size=2, batch_size=100)) for r in (0, 1)]
    assert [len(s) for s in short] == [250, 200]
    drop = [positions(firehose(rank=r, world_size=2, batch_size=100, last_batch="drop")) for r in (0, 1)]
    assert [len(s) for s in drop] == [200, 200]
    wrap = [positions(firehose(rank=r, world_size=2, batch_size=100, last_batch="wrap")) for r in (0, 1)]
    assert [len(s) for s in wrap] == [300, 300]
    assert wrap[0][-50:] == list(range(50))
    assert wrap[1][-100:] == list(range(50, 150))


def test_a_repeated_pass_is_the_same_pass_without_reshuffle(firehose: Any):
    dataset = firehose(batch_size=8, reshuffle=False)
    assert ids(dataset) == ids(dataset)


def test_an_iterator_goes_on_after_a_transform_raised(firehose: Any):
    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["position"] == 1:
            raise ValueError("no")
        return sample

    samples = iter(firehose(transform=transform))
    assert next(samples)["position"] == 0
    with pytest.raises(ValueError, match="no"):
        next(samples)
    assert next(samples)["position"] == 2


def test_bad_samples_are_skipped_counted_and_named(firehose: Any, caplog: pytest.LogCaptureFixture):
    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["position"] % 10 == 3:
            raise ValueError("no")
        return sample

    dataset = firehose(transform=transform, on_error="skip")
    assert len(list(dataset)) == 405
    assert dataset.stats()["skipped"] == 45
    assert "skipped position 3 of" in caplog.text
    batches = list(firehose(transform=transform, on_error="skip", batch_size=10))
    assert [len(b["id"]) for b in batches] == [9] * 45


@pytest.mark.parametrize("last", ["short", "drop", "wrap"])
@pytest.mark.parametrize("options", [{"batch_size": 5}, {"batch_tokens": 8}])
def test_a_step_whose_samples_are_all_skipped_gets_the_next_sample(firehose: Any, last: str, options: dict[str, Any]):
    """So ranks make the same number of steps, and a state moves as far as without the bad samples."""

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        if 100 <= sample["position"] < 115 or sample["position"] >= 440:
            raise ValueError("no")
        return sample

    plain = [len(list(firehose(rank=rank, world_size=2, last_batch=last, **options))) for rank in (0, 1)]
    steps, seen = [], set()
    for rank in (0, 1):
        dataset = firehose(rank=rank, world_size=2, transform=transform, on_error="skip", last_batch=last, **options)
        batches = list(dataset)
        steps.append(len(batches))
        seen |= set(positions(batches))
        assert all(len(batch["id"]) for batch in batches)
    assert steps == plain
    assert seen == set(range(100)) | set(range(115, 440))
    loaded = dataset.loader(num_workers=2)
    assert [batch["position"].tolist() for batch in loaded] == [batch["position"].tolist() for batch in batches]


@pytest.mark.parametrize("options", [{"batch_size": 300}, {"batch_tokens": 400}, {}])
@pytest.mark.parametrize("error", [KeyboardInterrupt, UnavailableError("gone", remedy="wait")])
def test_an_interrupted_batch_is_read_again(
    remote: Any, options: dict[str, Any], error: Any, monkeypatch: pytest.MonkeyPatch
):
    """The rows that were gathered for it are not lost, and the state does not lag."""
    expected = positions(remote(**options))
    dataset = remote(**options)
    samples = iter(dataset)
    whole = Pass._fetch
    fetched = []

    def interrupted(self: Any) -> Any:
        fetched.append(whole(self))
        if len(fetched) in (1, 2):
            raise error
        return fetched[-1]

    monkeypatch.setattr(Pass, "_fetch", interrupted)
    got: list[int] = []
    errors = 0
    while True:
        try:
            got += positions([next(samples)])
        except StopIteration:
            break
        except (KeyboardInterrupt, UnavailableError):
            errors += 1
        else:
            assert dataset.state_dict()["position"] == len(got)
    assert errors == 2
    assert got == expected


def test_a_hundred_bad_samples_in_a_row_are_an_error(firehose: Any):
    from choline_data.errors import DataError

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no")

    with pytest.raises(DataError, match="100 samples in a row"):
        next(iter(firehose(transform=transform, on_error="skip")))


def test_weights_may_stand_beside_a_list_of_names(firehose: Any, home: Any):
    expected = firehose({"web": 0.7, "code": 0.3}).recipe
    assert FirehoseDataset(["web", "code"], weights=[0.7, 0.3], home=home, repeat=False, seed=7).recipe == expected
    assert (
        FirehoseDataset(["web", "code"], probabilities=[0.7, 0.3], home=home, repeat=False, seed=7).recipe == expected
    )
    with pytest.raises(InvalidMixError):
        FirehoseDataset(["web"], weights=[0.7, 0.3], home=home)


def test_options_that_make_no_sense_are_refused(firehose: Any):
    for bad in (
        {"batch_size": 0},
        {"rank": 2, "world_size": 2},
        {"rank": 0},
        {"on_error": "explode"},
        {"last_batch": "eat"},
        {"decode": "gif"},
        {"max_samples": -1},
        {"format": "pytorch"},
    ):
        with pytest.raises(InvalidOptionError):
            firehose(**bad)
    with pytest.raises(UnknownDatasetError, match="web"):
        firehose("wbe")


def test_rank_and_world_size_come_from_the_environment(firehose: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert positions(firehose()) == list(range(1, 450, 3))
    assert positions(firehose(rank=0, world_size=1)) == list(range(450))


def test_seek_goes_to_a_position(firehose: Any):
    dataset = firehose()
    dataset.seek(440)
    assert positions(dataset) == list(range(440, 450))
    with pytest.raises(OutOfRangeError):
        dataset.seek(451)


@pytest.mark.parametrize(
    ("option", "value"),
    [("token", "secret"), ("tls", True), ("prefetch_bytes", 1), ("retry_seconds", 1.0), ("stall_seconds", 1.0)],
)
def test_an_option_of_servers_is_refused_without_a_server(firehose: Any, option: str, value: object):
    with pytest.raises(InvalidOptionError, match=f"{option} has no meaning without a server"):
        firehose(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("tokenizer", "bytes"), ("seq_len", 8), ("packing", "bfd"), ("boundary", "bos")]
)
def test_an_option_of_packed_tokens_is_refused_in_another_view(firehose: Any, option: str, value: object):
    with pytest.raises(InvalidOptionError, match=f"{option} has no meaning in the view 'text'"):
        firehose(view="text", **{option: value})


def test_a_home_and_a_server_are_not_given_together(firehose: Any):
    with pytest.raises(InvalidOptionError, match="Give one of them"):
        firehose(server="localhost:9000")


def test_a_reader_that_ends_early_is_an_error_and_never_a_short_pass(firehose: Any, monkeypatch: pytest.MonkeyPatch):
    from choline_data.client.readers.embedded import EmbeddedReader

    whole = EmbeddedReader.chunks
    monkeypatch.setattr(EmbeddedReader, "chunks", lambda *arguments: itertools.islice(whole(*arguments), 1))
    with pytest.raises(UnavailableError, match="before the end of the pass"):
        list(firehose())
