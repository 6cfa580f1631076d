"""States: exact at every index, portable between ranks and workers, small, and refused where they do not fit."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tests.client.conftest import MIX, ids, positions
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.client import collate
from choline_data.errors import InvalidCursorError, InvalidOptionError, RecipeMismatchError
from choline_data.order.lanes import Lane

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
SMALL = {"max_samples": 40}


def taken(iterator: Any, count: int) -> list[Any]:
    return [sample for _, sample in zip(range(count), iterator, strict=False)]


@pytest.mark.parametrize("batch", [None, 4])
def test_resuming_at_every_index_loses_and_repeats_nothing(firehose: Any, batch: int | None):
    whole = ids(firehose(batch_size=batch, **SMALL))
    for count in range(len(firehose(batch_size=batch, **SMALL))):
        dataset = firehose(batch_size=batch, **SMALL)
        before = ids(taken(iter(dataset), count))
        state = json.loads(json.dumps(dataset.state_dict()))
        again = firehose(batch_size=batch, **SMALL)
        again.load_state_dict(state)
        assert again.state_dict()["position"] == state["position"]
        assert before + ids(again) == whole


def test_a_state_follows_what_was_yielded_not_what_was_read_ahead(firehose: Any):
    dataset = firehose()
    taken(iter(dataset), 5)
    assert dataset.state_dict()["position"] == 5


def test_resuming_a_resumed_stream_is_exact(firehose: Any):
    whole, got, state = ids(firehose()), [], None
    turn = random.Random(3)
    while len(got) < 450:
        dataset = firehose()
        if state is not None:
            dataset.load_state_dict(state)
        got += ids(taken(iter(dataset), min(turn.randrange(1, 60), 450 - len(got))))
        state = dataset.state_dict()
    assert got == whole


def test_resume_at_random_positions_of_a_million(firehose: Any):
    turn = random.Random(5)
    for position in turn.sample(range(10**6), 100):
        dataset = firehose(repeat=True)
        dataset.seek(position)
        sample = next(iter(dataset))
        assert sample["position"] == position
        assert dataset.explain(position)[0]["dataset"] == sample["dataset"]
        assert dataset.explain(position)[0]["row"] == sample["origin"]["row"]


def test_the_end_means_the_next_pass(firehose: Any):
    dataset = firehose(**SMALL)
    assert len(list(dataset)) == 40
    state = dataset.state_dict()
    assert (state["position"], state["epoch"]) == (0, 1)
    again = firehose(**SMALL)
    again.load_state_dict(state)
    assert positions(again) == list(range(40))


def test_a_state_taken_after_the_last_sample_means_the_next_pass(firehose: Any):
    dataset = firehose(**SMALL)
    taken(iter(dataset), 40)
    again = firehose(**SMALL)
    again.load_state_dict(dataset.state_dict())
    assert positions(again) == list(range(40))
    assert again.state_dict()["epoch"] == 2


def test_a_state_is_flat_small_and_fresh(firehose: Any):
    dataset = firehose(batch_size=4)
    batches = iter(dataset)
    next(batches)
    state = dataset.state_dict()
    kept = dict(state)
    next(batches)
    assert state == kept
    assert dataset.state_dict() is not dataset.state_dict()
    assert all(isinstance(value, (int, str)) for value in state.values())
    assert len(json.dumps(state)) < 4096


def test_a_state_of_a_hundred_sources_has_at_most_4_kib(tmp_path: Any):
    from choline_data.client.state import summary
    from choline_data.order.recipe import Recipe, RecipeSource, Segment

    turn = random.Random(1)
    sources = tuple(
        RecipeSource(f"a-rather-long-name-{n}", f"a-rather-long-name-{n}", turn.randbytes(32).hex(), 10**6 + n, 512)
        for n in range(100)
    )
    recipe = Recipe(sources, (Segment(0, {s.name: turn.randrange(1, 10**9) for s in sources}),))
    assert 0 < len(summary(recipe)) < 3500


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 8}, "seed: 8 here, 7 there"),
        ({"shuffle": False}, "shuffle: False here, True there"),
        ({"mix": {"web": 5, "code": 3}}, "source chat is only there"),
        ({"mix": {"web": 5, "code": 4, "chat": 2}}, "segments:"),
        ({"repeat": True}, "max_epochs"),
    ],
)
def test_a_state_of_another_recipe_is_refused_with_the_difference(firehose: Any, change: dict[str, Any], told: str):
    state = firehose().state_dict()
    other = firehose(change.pop("mix", MIX), **change)
    with pytest.raises(RecipeMismatchError, match=told):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"position": 3},
        {"version": 1, "recipe": "x", "position": -1},
        {"version": 1, "recipe": 4, "position": 1},
    ],
)
def test_what_is_no_state_is_refused(firehose: Any, state: dict[str, Any]):
    with pytest.raises(InvalidCursorError):
        firehose().load_state_dict(state)


def test_a_state_of_a_newer_version_says_so(firehose: Any):
    with pytest.raises(InvalidCursorError, match="newer"):
        firehose().load_state_dict({**firehose().state_dict(), "version": 3})


def test_a_state_goes_from_8_ranks_to_6_and_back(firehose: Any):
    """Saved after 3 steps of 8 x 4, resumed with 6 x 5 for 4 steps, then with 1 x 4: the exact complement each time."""
    got: list[int] = []
    state = None
    for world, batch, steps in ((8, 4, 3), (6, 5, 4), (1, 4, 1000)):
        seen = []
        for rank in range(world):
            dataset = firehose(rank=rank, world_size=world, batch_size=batch)
            if state is not None:
                dataset.load_state_dict(state)
            seen += positions(taken(iter(dataset), steps))
            after = dataset.state_dict()
        assert sorted(seen) == list(range(len(got), len(got) + len(seen)))
        got += sorted(seen)
        state = after
    assert got == list(range(450))


def test_a_dataset_state_reaches_the_workers(firehose: Any):
    dataset = firehose(batch_size=8)
    taken(iter(dataset), 7)
    again = firehose(batch_size=8)
    again.load_state_dict(dataset.state_dict())
    assert positions(DataLoader(again, batch_size=None, num_workers=2)) == list(range(56, 450))


def stateful(dataset: Any, workers: int, **options: Any) -> StatefulDataLoader:
    return StatefulDataLoader(dataset, batch_size=7, collate_fn=collate, num_workers=workers, **options)


@pytest.mark.parametrize(
    ("workers", "every", "count"),
    [(0, 1, 5), (1, 1, 10), (2, 1, 0), (2, 1, 63), (2, 3, 5), (3, 1, 64), (3, 3, 10)],
)
def test_a_stateful_loader_resumes_with_any_number_of_workers(firehose: Any, workers: int, every: int, count: int):
    loader = stateful(firehose(), workers, snapshot_every_n_steps=every)
    got = positions(taken(iter(loader), count))
    state = loader.state_dict()
    same = stateful(firehose(), workers, snapshot_every_n_steps=every)
    same.load_state_dict(state)
    assert got + positions(same) == list(range(450))
    dataset = firehose()
    dataset.load_state_dict(state)  # the whole state of the loader, whatever its workers were
    assert got + positions(stateful(dataset, 2 if workers == 0 else 0)) == list(range(450))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_stateful_loader_goes_through_epochs(firehose: Any, workers: int, persistent: bool):
    if persistent and not workers:
        return
    loader = stateful(firehose(max_samples=70), workers, persistent_workers=persistent)
    for _ in range(3):
        assert positions(loader) == list(range(70))
    state = loader.state_dict()
    again = stateful(firehose(max_samples=70), workers, persistent_workers=persistent)
    again.load_state_dict(state)
    assert positions(again) == list(range(70))
    assert positions(again) == list(range(70))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_has_a_state_before_and_at_its_end(firehose: Any, workers: int):
    loader = stateful(firehose(max_samples=70), workers)
    state = loader.state_dict()
    assert positions(loader) == list(range(70))
    again = stateful(firehose(max_samples=70), workers)
    again.load_state_dict(state)
    assert positions(again) == list(range(70))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_where_workers_of_a_plain_loader_are_is_not_made_up(firehose: Any, context: str):
    dataset = firehose(batch_size=8)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=context)
    next(iter(loader))
    with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
        dataset.state_dict()
    dataset.seek(8)
    assert dataset.state_dict()["position"] == 8


def test_the_state_names_the_run(firehose: Any):
    assert "run" not in firehose().state_dict()
    dataset = firehose(run="week 3, cooled down")
    assert dataset.state_dict()["run"] == dataset.stats()["run"] == "week 3, cooled down"
    firehose(run="another").load_state_dict(dataset.state_dict())
    with pytest.raises(InvalidOptionError, match="64 characters"):
        firehose(run="x" * 65)


@pytest.mark.parametrize(("workers", "every"), [(0, 1), (2, 1), (2, 5)])
def test_a_stateful_loaders_state_is_json_also_before_the_first_batch(firehose: Any, workers: int, every: int):
    for count in (0, 3):
        loader = stateful(firehose(max_samples=70), workers, snapshot_every_n_steps=every)
        batches = iter(loader)
        got = positions(taken(batches, count))
        state = json.loads(json.dumps(loader.state_dict()))
        assert loader.state_dict() == loader.state_dict()  # asking moves nothing
        again = stateful(firehose(max_samples=70), workers, snapshot_every_n_steps=every)
        again.load_state_dict(state)
        assert got + positions(again) == list(range(70))
        assert got + positions(batches) == list(range(70))


def test_a_state_has_the_same_keys_at_every_step(firehose: Any):
    dataset = firehose(batch_size=8, **SMALL)
    batches = iter(dataset)
    states = [dataset.state_dict() for _ in batches]
    assert {tuple(state) for state in states} == {tuple(states[0])}
    assert [state["position"] for state in states] == [8, 16, 24, 32, 40]


@pytest.mark.parametrize("workers", [1, 4])
def test_more_workers_than_samples_lose_none(firehose: Any, workers: int):
    assert positions(DataLoader(firehose(max_samples=3), batch_size=1, num_workers=workers, collate_fn=collate)) == [
        0,
        1,
        2,
    ]
    loader = stateful(firehose(max_samples=3), workers)
    assert positions(loader) == positions(loader) == [0, 1, 2]


def test_a_source_of_one_file_keeps_eight_workers_equally_busy():
    lanes = [Lane.of(0, rank=0, world=1, batch=8, worker=w, workers=8) for w in range(8)]
    rows = [lane.below(10_000) for lane in lanes]
    assert sum(rows) == 10_000
    assert max(rows) <= 1.1 * min(rows)


def test_the_state_of_one_worker_alone_is_refused(firehose: Any):
    loader = stateful(firehose(), 2)
    taken(iter(loader), 3)
    state = loader.state_dict()["_snapshot"]["_worker_snapshots"]["worker_1"]["dataset_state"]
    dataset = firehose()
    dataset.load_state_dict(state)
    with pytest.raises(InvalidOptionError, match="worker 1 of 2"):
        iter(dataset)


def test_a_state_dict_costs_microseconds(firehose: Any):
    import timeit

    dataset = firehose(batch_size=4)
    next(iter(dataset))
    assert min(timeit.repeat(dataset.state_dict, number=100, repeat=5)) / 100 < 50e-6


def test_a_state_always_has_every_key(firehose: Any):
    """torch's distributed checkpoint loads only the keys that the state of a fresh object has."""
    dataset = firehose(batch_size=8, **SMALL)
    fresh = set(dataset.state_dict())
    assert fresh == set(dataset.loader().state_dict())
    dataset.ban([next(iter(dataset))["id"][0]])
    assert set(dataset.state_dict()) == fresh
    sized = firehose(**SMALL)
    sized.find_batch_size(len, most=4)
    assert set(sized.state_dict()) == fresh


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled", "ignore:.*is deprecated")
@pytest.mark.parametrize("of_loader", [False, True])
def test_bans_and_the_step_pass_through_torchs_distributed_checkpoint(firehose: Any, tmp_path: Any, of_loader: bool):
    from torch.distributed import checkpoint

    saved, loaded = (firehose(batch_size=8, **SMALL) for _ in range(2))
    if of_loader:
        saved, loaded = saved.loader(), loaded.loader()
    batches = iter(saved)
    saved.ban([next(batches)["id"][0]])
    next(batches)
    checkpoint.save({"data": saved}, checkpoint_id=tmp_path / "kept", no_dist=True)
    checkpoint.load({"data": loaded}, checkpoint_id=tmp_path / "kept", no_dist=True)
    assert loaded.state_dict()["banned"] == saved.state_dict()["banned"] != ""
    assert positions(loaded) == list(range(16, 40))


@pytest.mark.parametrize("of_loader", [False, True])
@pytest.mark.parametrize("length", [448, 450, 460, 463])
def test_a_state_after_a_short_last_batch_begins_the_next_pass_on_any_world_size(
    firehose: Any, length: int, of_loader: bool
):
    """Each rank's own state, loaded by one rank, repeats no row of the steps that it has made and loses none after them."""
    for rank in (0, 1):
        dataset = firehose(batch_size=8, rank=rank, world_size=2, repeat=True, max_samples=length)
        saved = dataset.loader() if of_loader else dataset
        for count, _ in enumerate(iter(saved), 1):
            again = firehose(batch_size=8, rank=0, world_size=1, repeat=True, max_samples=length)
            again.load_state_dict(saved.state_dict())
            assert next(iter(again))["position"][0] == (16 * count if 16 * count < length else 0)


def test_a_state_after_the_last_whole_step_begins_the_next_pass_if_the_rest_is_dropped(firehose: Any):
    for make in (
        lambda: firehose(batch_size=8, last_batch="drop"),
        lambda: firehose(batch_size=8, last_batch="drop").loader(),
    ):
        saved, again = make(), make()
        batches = iter(saved)
        got = positions(taken(batches, 56))
        assert got == list(range(448))
        again.load_state_dict(saved.state_dict())
        assert positions(again) == got
    other = firehose(batch_size=2, last_batch="drop")
    other.load_state_dict(saved.state_dict())
    assert positions(other) == [448, 449]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_workers_that_leave_samples_out_resume_inside_a_group(firehose: Any, count: int):
    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["position"] % 3 == 1:
            raise ValueError("no")
        return sample

    def make() -> Any:
        dataset = firehose(transform=transform, on_error="skip", max_samples=90)
        return StatefulDataLoader(dataset, batch_size=4, num_workers=2, collate_fn=collate)

    whole = [batch["position"].tolist() for batch in make()]
    loader = make()
    got = [batch["position"].tolist() for batch in taken(iter(loader), count)]
    again = make()
    again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert got + [batch["position"].tolist() for batch in again] == whole
    assert sorted(position for batch in whole for position in batch) == [
        position for position in range(90) if position % 3 != 1
    ]
    if count > 1:  # each worker is inside a group
        with pytest.raises(InvalidCursorError, match="no common position"):
            firehose(max_samples=90).load_state_dict(loader.state_dict())
