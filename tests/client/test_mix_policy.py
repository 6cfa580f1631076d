"""Sources that run out, and batches with one source each: embedded and from a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.client.conftest import ids, positions
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.errors import InvalidMixError, InvalidOptionError, RecipeMismatchError, SourceExhaustedError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
MIX = {"web": 1, "code": 1, "chat": 2}  # chat has 60 rows: it runs out first, near position 120
PLACES = pytest.mark.parametrize("place", ["firehose", "remote"])


def until_it_fails(dataset: Any) -> tuple[list[Any], SourceExhaustedError]:
    got: list[Any] = []
    try:
        for sample in dataset:
            got.append(sample)
    except SourceExhaustedError as error:
        return got, error
    raise AssertionError("the stream just ended")


def sources_of(batch: Any) -> set[str]:
    return set(batch["dataset"])


@PLACES
def test_an_exhausted_source_is_an_error_after_the_last_sample_that_keeps_the_mix(
    request: pytest.FixtureRequest, place: str
):
    make = request.getfixturevalue(place)
    dataset = make(MIX, on_exhausted="error")
    got, error = until_it_fails(dataset)
    assert str(error).startswith(f"chat runs out at position {len(got)}, after 60 samples of its 60 rows.")
    assert error.metadata == {"source": "chat", "position": str(len(got))}
    assert ids(got) == ids(make(MIX, on_exhausted="stop"))
    assert dataset.state_dict()["position"] == len(got)
    with pytest.raises(SourceExhaustedError):  # no pass begins again by itself
        next(iter(dataset))


def test_a_checkpoint_at_the_error_stays_there(firehose: Any):
    dataset = firehose(MIX, on_exhausted="error")
    with pytest.raises(SourceExhaustedError):
        list(dataset)
    again = firehose(MIX, on_exhausted="error")
    again.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    assert again.state_dict()["position"] == dataset.length
    with pytest.raises(SourceExhaustedError):
        next(iter(again))


def test_more_samples_than_the_mix_lasts_are_refused_at_once(firehose: Any):
    lasts = firehose(MIX, on_exhausted="stop").length
    with pytest.raises(SourceExhaustedError, match="chat runs out"):
        firehose(MIX, on_exhausted="error", max_samples=lasts + 1)
    assert len(list(firehose(MIX, on_exhausted="error", max_samples=lasts))) == lasts


def test_a_mix_whose_sources_end_together_or_never_is_no_error(firehose: Any):
    assert len(list(firehose({"web": 1}, on_exhausted="error"))) == 300
    assert firehose(MIX, on_exhausted="error", repeat=True).length is None
    assert len(list(firehose({"web": 1, "chat": 0}, on_exhausted="error"))) == 300


def test_every_rank_makes_as_many_steps_before_the_error(firehose: Any):
    steps = []
    for rank in range(3):
        options = {"rank": rank, "world_size": 3, "batch_size": 8, "last_batch": "wrap"}
        steps.append(len(until_it_fails(firehose(MIX, on_exhausted="error", **options))[0]))
    assert len(set(steps)) == 1
    assert steps[0] == firehose(MIX, on_exhausted="stop").length // 24


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_passes_the_error_on(firehose: Any, workers: int):
    loader = firehose(MIX, on_exhausted="error", batch_size=8).loader(num_workers=workers)
    with pytest.raises(SourceExhaustedError, match="chat runs out at position"):
        list(loader)


def test_a_map_of_a_stream_that_ends_in_an_error_is_refused(firehose: Any):
    with pytest.raises(SourceExhaustedError, match="max_samples"):
        firehose(MIX, on_exhausted="error").as_map()
    assert len(firehose(MIX, on_exhausted="error", max_samples=50).as_map()) == 50


@PLACES
def test_repeat_begins_a_source_again_until_each_has_been_through(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    samples = list(make({"web": 1, "chat": 1}, on_exhausted="repeat"))
    web = [s["origin"]["row"] for s in samples if s["dataset"] == "web"]
    chat = [s["origin"]["row"] for s in samples if s["dataset"] == "chat"]
    assert sorted(web) == list(range(300))
    assert abs(len(chat) - 300) <= 3
    for epoch in range(4):
        assert sorted(chat[epoch * 60 : epoch * 60 + 60]) == list(range(60))


@PLACES
def test_every_batch_has_one_source_and_sources_share_by_weight(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    options = {"repeat": True, "batch_size": 8, "source_batches": True, "max_samples": 8 * 400}
    batches = list(make({"web": 6, "code": 3, "chat": 1}, **options))
    assert all(len(sources_of(batch)) == 1 for batch in batches)
    counts = [sum(sources_of(b) == {name} for b in batches) for name in ("web", "code", "chat")]
    assert [abs(c - e) <= 45 for c, e in zip(counts, (240, 120, 40), strict=True)] == [True] * 3
    web = [i for b in batches if sources_of(b) == {"web"} for i in b["id"]]
    assert len(set(web[:300])) == 300  # each epoch has every row


def test_batches_of_one_source_do_not_depend_on_ranks_and_workers(firehose: Any):
    options = {"batch_size": 4, "source_batches": True, "max_samples": 480, "repeat": True}
    whole = ids(firehose(MIX, **options))
    for world in (2, 3, 5):
        of_rank = [list(firehose(MIX, rank=r, world_size=world, **options)) for r in range(world)]
        assert all(len(sources_of(batch)) == 1 for batches in of_rank for batch in batches)
        dealt = [batch for step in range(480 // 4 // world) for batch in (ranks[step] for ranks in of_rank)]
        assert ids(dealt) == whole
    assert ids(firehose(MIX, **options).loader(num_workers=2)) == whole
    assert ids(DataLoader(firehose(MIX, **options), batch_size=None, num_workers=3)) == whole
    assert ids(StatefulDataLoader(firehose(MIX, **options), batch_size=None, num_workers=2)) == whole


def test_a_number_gives_whole_steps_of_all_ranks_to_one_source(firehose: Any):
    options = {"batch_size": 4, "source_batches": 12, "max_samples": 480, "repeat": True, "world_size": 3}
    ranks = [list(firehose(MIX, rank=rank, **options)) for rank in range(3)]
    steps = [set().union(*map(sources_of, step)) for step in zip(*ranks, strict=True)]
    assert all(len(step) == 1 for step in steps)
    assert set().union(*steps) == {"web", "code", "chat"}


def test_batches_of_one_source_resume_at_every_step(firehose: Any):
    options = {"batch_size": 8, "source_batches": True}
    whole = [list(batch["id"]) for batch in firehose(MIX, **options)]
    assert len(whole) == 300 // 8 + 90 // 8 + 60 // 8  # what does not fill a batch of one source is left out
    for step in range(len(whole)):
        dataset = firehose(MIX, **options)
        batches = iter(dataset)
        for _ in range(step):
            next(batches)
        again = firehose(MIX, **options)
        again.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
        assert [list(batch["id"]) for batch in again] == whole[step:]


def test_explain_names_the_rows_of_a_batch_of_one_source(firehose: Any):
    dataset = firehose(MIX, batch_size=8, source_batches=True)
    for step, batch in enumerate(dataset):
        told = dataset.explain(step)
        assert [(t["dataset"], t["row"]) for t in told] == [
            (d, o["row"]) for d, o in zip(batch["dataset"], batch["origin"], strict=True)
        ]


def test_batches_that_would_take_from_two_sources_are_refused(firehose: Any):
    made = firehose(MIX, batch_size=8, source_batches=True)
    for options in ({"batch_size": 3}, {"batch_size": 16}, {"batch_tokens": 100}):
        with pytest.raises(InvalidOptionError, match="would contain two sources, because each 8 positions have one"):
            next(iter(firehose(made.recipe, **options)))
    assert all(len(sources_of(batch)) == 1 for batch in firehose(made.recipe, batch_size=4))
    made.seek(4)
    with pytest.raises(InvalidOptionError, match="from position 4 would contain two sources"):
        next(iter(made))
    for wrong in ({"source_batches": True}, {"source_batches": 0}, {"source_batches": "web", "batch_size": 8}):
        with pytest.raises(InvalidOptionError, match="source_batches is"):
            firehose(MIX, **wrong)
    with pytest.raises(InvalidMixError, match="chat: 60 samples are less than one batch of 64"):
        firehose(MIX, batch_size=64, source_batches=True)


def test_a_state_of_other_batches_of_one_source_is_refused_in_words(firehose: Any):
    state = firehose(MIX, batch_size=8, source_batches=True).state_dict()
    with pytest.raises(RecipeMismatchError, match="source_batch: None here, 8 there"):
        firehose(MIX, batch_size=8).load_state_dict(state)
    with pytest.raises(RecipeMismatchError, match="source_batch: 4 here, 8 there"):
        firehose(MIX, batch_size=4, source_batches=True).load_state_dict(state)
    firehose(MIX, batch_size=4, source_batches=8).load_state_dict(state)


def test_a_source_without_weight_is_legal_and_gives_nothing(firehose: Any):
    samples = list(firehose({"web": 1, "chat": 0}))
    assert {s["dataset"] for s in samples} == {"web"}
    assert len(samples) == 300


def test_positions_of_batches_of_one_source_follow_one_another(firehose: Any):
    dataset = firehose(MIX, batch_size=8, source_batches=True)
    assert positions(dataset) == list(range(dataset.length))
