"""A change of weights from a position on: each source continues at its current sample, and earlier positions do not change."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from tests.client.conftest import ids
from tests.recipes import with_segment
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.errors import (
    InvalidMixError,
    InvalidOptionError,
    OutOfRangeError,
    RecipeMismatchError,
    SourceExhaustedError,
)
from choline_data.order.recipe import Recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
PLACES = pytest.mark.parametrize("place", ["firehose", "remote"])
WEB, CODE = {"web": 3, "code": 1}, {"web": 1, "code": 3}
CHANGE, END = 96, 240


def rows(samples: list[Any]) -> dict[str, list[int]]:
    """The rows of each dataset, in the order in which they came."""
    found = defaultdict(list)
    for sample in samples:
        found[sample["dataset"]].append(sample["origin"]["row"])
    return found


@PLACES
def test_other_weights_lose_and_repeat_nothing(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    options = {"repeat": True, "max_samples": END, "shuffle": False}
    before = make(WEB, **options)
    after = make(with_segment(before.recipe, CHANGE, CODE), max_samples=END)
    old, new = list(before), list(after)
    assert new[:CHANGE] == old[:CHANGE]
    assert new[CHANGE:] != old[CHANGE:]
    got = rows(new)
    assert got == {"web": list(range(len(got["web"]))), "code": [row % 90 for row in range(len(got["code"]))]}
    assert abs(len(got["web"]) - (CHANGE * 3 + (END - CHANGE)) / 4) <= 24


@PLACES
def test_a_checkpoint_from_before_the_change_goes_on_with_it(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    before = make(WEB, repeat=True, batch_size=8)
    batches = iter(before)
    for _ in range(7):
        next(batches)
    after = make(with_segment(before.recipe, CHANGE, CODE), batch_size=8, max_samples=END)
    after.load_state_dict(before.state_dict())
    got = [batch["id"] for batch in after]
    whole = [batch["id"] for batch in make(after.recipe, batch_size=8, max_samples=END)]
    assert got == whole[7:]


def test_a_source_may_join(firehose: Any):
    before = firehose({"web": 1}, repeat=True, seed=2)
    joined = firehose({"web": 1, "chat": 1}, repeat=True, seed=2).recipe
    after = firehose(with_segment(before.recipe, CHANGE, {"web": 1, "chat": 1}, joined.sources), max_samples=END)
    samples = list(after)
    assert {sample["dataset"] for sample in samples[:CHANGE]} == {"web"}
    assert 60 <= sum(sample["dataset"] == "chat" for sample in samples[CHANGE:]) <= 84
    after.load_state_dict({**before.state_dict(), "position": CHANGE})
    assert list(after) == samples[CHANGE:]


def taken(iterator: Any, count: int) -> list[Any]:
    return [sample for _, sample in zip(range(count), iterator, strict=False)]


@PLACES
@pytest.mark.parametrize("batch", [None, 8])
def test_a_loop_goes_on_with_another_mix_from_its_next_sample(
    request: pytest.FixtureRequest, place: str, batch: int | None
):
    make = request.getfixturevalue(place)
    options = {"repeat": True, "max_samples": END, "batch_size": batch, "shuffle": False}
    steps = CHANGE // (batch or 1)
    dataset = make(WEB, **options)
    old = list(make(WEB, **options))
    samples = iter(dataset)
    before = taken(samples, steps)
    recipe = dataset.change_mix(CODE)
    assert [segment.start for segment in recipe.segments] == [0, CHANGE]
    assert dataset.recipe == recipe
    after = list(samples)
    assert ids(before) == ids(old)[:CHANGE]
    assert ids(before + after) == ids(make(recipe, max_samples=END))
    assert ids(after) != ids(old)[CHANGE:]
    if batch is None:
        got = rows(before + after)
        assert got["web"] == list(range(len(got["web"])))
        assert got["code"] == [row % 90 for row in range(len(got["code"]))]
        assert sum(s["dataset"] == "code" for s in after) > 80


@PLACES
def test_a_change_ahead_comes_at_its_position(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    dataset = make(WEB, repeat=True, max_samples=END)
    samples = iter(dataset)
    before = taken(samples, 10)
    recipe = dataset.change_mix(CODE, at=CHANGE)
    assert ids(before + list(samples)) == ids(make(recipe, max_samples=END))
    assert recipe == dataset.recipe
    assert recipe.segments[1].start == CHANGE


def test_states_and_explanations_follow_a_change(firehose: Any):
    options = {"repeat": True, "batch_size": 8}
    dataset = firehose(WEB, **options)
    batches = iter(dataset)
    taken(batches, 5)
    early = dataset.state_dict()
    taken(batches, 7)
    recipe = dataset.change_mix(CODE)
    middle = dataset.state_dict()
    assert (middle["recipe"], middle["position"]) == (recipe.digest, CHANGE)
    after = taken(batches, 20)
    late = dataset.state_dict()
    told = [(t["dataset"], t["row"]) for step in range(12, 32) for t in dataset.explain(step)]
    assert told == [(d, o["row"]) for batch in after for d, o in zip(batch["dataset"], batch["origin"], strict=True)]
    assert len(json.dumps(late)) < 4096
    whole = [list(batch["id"]) for batch in firehose(recipe, batch_size=8, max_samples=8 * 40)]
    for state, step in ((early, 5), (middle, 12), (late, 32)):
        again = firehose(recipe, batch_size=8, max_samples=8 * 40)
        again.load_state_dict(json.loads(json.dumps(state)))
        assert [list(batch["id"]) for batch in again] == whole[step:]


@PLACES
def test_the_script_of_the_first_mix_resumes_a_run_whose_mix_was_changed(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    dataset = make(WEB, repeat=True)
    samples = iter(dataset)
    taken(samples, 50)
    dataset.change_mix(CODE)
    taken(samples, 30)
    dataset.change_mix({"web": 1, "code": 1}, at=100, until=200, steps=5)
    taken(samples, 40)
    again = make(WEB, repeat=True)
    again.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    assert again.recipe == dataset.recipe
    assert ids(taken(iter(again), 150)) == ids(taken(samples, 150))


def test_a_state_whose_changes_are_not_those_of_its_digest_is_refused(firehose: Any):
    dataset = firehose(WEB, repeat=True)
    taken(iter(dataset), 50)
    old = dataset.state_dict()
    dataset.change_mix(CODE)
    forged = {**dataset.state_dict(), "recipe": "ab" * 32, "position": 60}
    with pytest.raises(RecipeMismatchError, match="segments"):
        firehose(WEB, repeat=True).load_state_dict(forged)
    again = firehose(WEB, repeat=True)
    again.load_state_dict(old)
    assert len(again.recipe.segments) == 1


def test_a_source_joins_by_its_name_and_one_that_is_not_named_pauses(firehose: Any):
    dataset = firehose({"web": 1, "code": 1}, repeat=True, max_samples=400, shuffle=False)
    samples = iter(dataset)
    before = taken(samples, 100)
    dataset.change_mix({"web": 1, "chat": 1})
    middle = taken(samples, 100)
    assert {s["dataset"] for s in middle} == {"web", "chat"}
    dataset.change_mix({"code": 1, "chat": 3})
    after = list(samples)
    assert {s["dataset"] for s in after} == {"code", "chat"}
    got = rows(before + middle + after)
    assert got["web"] == list(range(len(got["web"])))
    assert got["code"] == [row % 90 for row in range(len(got["code"]))]
    assert got["chat"] == [row % 60 for row in range(len(got["chat"]))]


def test_a_source_joins_a_stream_of_a_server(remote: Any):
    dataset = remote({"web": 1}, repeat=True, max_samples=200)
    samples = iter(dataset)
    before = taken(samples, 50)
    recipe = dataset.change_mix({"web": 1, "chat": 1})
    after = list(samples)
    assert {s["dataset"] for s in after} == {"web", "chat"}
    assert after[0]["position"] == 50
    assert ids(before + after) == ids(remote(recipe, max_samples=200))


def test_sources_keep_their_revision_split_and_filter_through_a_change(shelf: Any, numbered: Any):
    from choline_data.client import FirehoseDataset

    first = shelf.add("web", numbered("page", 100))
    shelf.add("code", parts={("", "train"): numbered("line", 50), ("", "test"): numbered("test", 50)})
    mix = {"w": {"dataset": "web", "where": "text like '%1%'"}, "code": 1}
    dataset = FirehoseDataset(mix, home=shelf.home.location, repeat=True)
    samples = iter(dataset)
    taken(samples, 20)
    second = shelf.add("web", numbered("newer", 100))
    recipe = dataset.change_mix({"w": 3, "code": 1})
    assert recipe.sources == dataset.recipe.before(1).sources
    assert {source.revision for source in recipe.sources if source.name == "w"} == {first.revision}
    assert recipe.segments[1].weights == {"w": 3, "code": 1}
    taken(samples, 20)
    both = dataset.change_mix({"w": 1, f"web@{second.revision[:12]}": 1})
    assert {source.revision for source in both.sources if source.dataset == "web"} == {first.revision, second.revision}
    assert {s["text"].split()[0] for s in taken(samples, 40)} == {"page", "newer"}


def test_a_change_counts_in_the_unit_of_the_mix(shelf: Any):
    from choline_data.client import FirehoseDataset

    shelf.add("long", {"text": ["x" * 400] * 100})
    shelf.add("short", {"text": ["x" * 100] * 100})
    dataset = FirehoseDataset({"long": 1, "short": 1}, unit="bytes", home=shelf.home.location)
    taken(iter(dataset), 10)
    shares = dataset.change_mix({"long": 2, "short": 1}).segments
    first, second = (segment.weights["short"] / segment.weights["long"] for segment in shares)
    assert first > 3  # a long sample has the bytes of so many short ones
    assert second == pytest.approx(first / 2)


@PLACES
def test_a_mix_moves_to_another_in_equal_steps(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    dataset = make({"web": 1, "code": 0}, repeat=True, max_samples=1200)
    recipe = dataset.change_mix({"web": 0, "code": 1}, at=200, until=1000, steps=5)
    assert [segment.start for segment in recipe.segments] == [0, 200, 400, 600, 800, 1000]
    shares = [segment.weights["code"] / sum(segment.weights.values()) for segment in recipe.segments]
    assert shares == [0, 0.2, 0.4, 0.6, 0.8, 1]
    samples = list(dataset)
    for segment, share in zip(range(200, 1200, 200), shares[1:], strict=True):
        got = sum(s["dataset"] == "code" for s in samples[segment : segment + 200])
        assert abs(got - 200 * share) <= 5 * (200 * share * (1 - share)) ** 0.5
    for name, many in (("web", 300), ("code", 90)):
        got = rows(samples)[name]
        whole = len(got) // many * many
        assert sorted(got[:whole]) == sorted([*range(many)] * (whole // many))


def test_a_change_at_the_place_of_the_last_takes_its_place(firehose: Any):
    dataset = firehose(WEB, repeat=True)
    assert dataset.change_mix(CODE) == firehose(CODE, repeat=True).recipe  # nothing was read: it is the mix
    taken(iter(dataset), 10)
    dataset.change_mix({"web": 1, "chat": 1})
    recipe = dataset.change_mix({"web": 5, "code": 1})
    assert [source.name for source in recipe.sources] == ["code", "web"]
    assert [(s.start, dict(s.weights)) for s in recipe.segments] == [(0, CODE), (10, {"web": 5, "code": 1})]


def test_a_change_of_what_was_read_or_of_what_is_not_there_is_refused(firehose: Any):
    dataset = firehose(WEB)
    taken(iter(dataset), 50)
    with pytest.raises(OutOfRangeError, match="position 49: the stream has been read to 50"):
        dataset.change_mix(CODE, at=49)
    with pytest.raises(OutOfRangeError, match="it ends at 390"):
        dataset.change_mix(CODE, at=391)
    with pytest.raises(InvalidMixError, match=r"max_epochs of web is 1 in the stream and 3 here"):
        dataset.change_mix({"web": {"weight": 1, "max_epochs": 3}})
    for until, steps in ((60, 1), (60, 12), (50, 2), (40, 3), ("60", 2), (60, 2.5)):
        with pytest.raises(InvalidOptionError, match="can't change in"):
            dataset.change_mix(CODE, until=until, steps=steps)
    dataset.change_mix(CODE, at=80)
    with pytest.raises(OutOfRangeError, match="its last change is at 80"):
        dataset.change_mix(WEB, at=70)
    assert len(dataset.recipe.segments) == 2


def test_a_mix_that_ran_out_goes_on_with_another(firehose: Any):
    dataset = firehose({"web": 1, "chat": 1}, on_exhausted="error")
    got: list[Any] = []
    with pytest.raises(SourceExhaustedError):
        got.extend(sample for sample in dataset)
    dataset.change_mix({"web": 1})
    rest = list(dataset)
    assert {s["dataset"] for s in rest} == {"web"}
    assert rest[0]["position"] == dataset.recipe.segments[1].start
    assert dataset.length == 360


def test_batches_of_one_source_change_at_a_batch(firehose: Any):
    dataset = firehose(WEB, repeat=True, batch_size=4, source_batches=8, max_samples=80)
    batches = iter(dataset)
    before = taken(batches, 3)
    recipe = dataset.change_mix(CODE)
    assert recipe.segments[1].start == 16
    assert ids(before + list(batches)) == ids(firehose(recipe, batch_size=4, max_samples=80))
    with pytest.raises(InvalidMixError, match="multiple of 8"):
        firehose(WEB, repeat=True, batch_size=8, source_batches=True).change_mix(CODE, at=20)
    steps = firehose(WEB, repeat=True, batch_size=8, source_batches=True).change_mix(CODE, until=100, steps=4)
    assert [segment.start for segment in steps.segments] == [0, 32, 64, 96]


def test_batches_by_a_budget_change_at_a_step(firehose: Any):
    dataset = firehose(WEB, repeat=True, batch_tokens=20, max_samples=END)
    batches = iter(dataset)
    before = taken(batches, 10)
    recipe = dataset.change_mix(CODE)
    assert ids(before + list(batches)) == ids(firehose(recipe, max_samples=END))


def test_all_ranks_change_at_the_same_step(firehose: Any):
    parts = []
    for rank in range(3):
        dataset = firehose(WEB, repeat=True, batch_size=4, rank=rank, world_size=3, max_samples=END)
        batches = iter(dataset)
        part = taken(batches, 8)
        dataset.change_mix(CODE)
        parts.append(part + list(batches))
        assert dataset.recipe.segments[1].start == CHANGE
    dealt = [batch for step in zip(*parts, strict=True) for batch in step]
    assert ids(dealt) == ids(firehose(dataset.recipe, max_samples=END))


def test_a_loader_changes_where_its_loop_stands(firehose: Any):
    loader = firehose(WEB, repeat=True, batch_size=8, max_samples=END).loader()
    batches = iter(loader)
    before = taken(batches, 12)
    recipe = loader.change_mix(CODE)
    after = taken(batches, 3)
    state = loader.state_dict()
    assert (state["recipe"], state["position"]) == (recipe.digest, 120)
    assert ids(before + after + list(batches)) == ids(firehose(recipe, max_samples=END))


def test_workers_that_have_read_ahead_are_not_changed_under_way(firehose: Any):
    loader = firehose(WEB, repeat=True, batch_size=8, max_samples=END).loader(num_workers=2)
    before: list[Any] = []
    for batch in loader:
        before.append(batch)
        if len(before) == 12:
            with pytest.raises(InvalidOptionError, match="workers have already read ahead"):
                loader.change_mix(CODE)
            break
    state = loader.state_dict()
    del batch
    loader.load_state_dict(state)
    recipe = loader.change_mix(CODE)
    assert recipe.segments[1].start == CHANGE
    assert ids([*before, *loader]) == ids(firehose(recipe, max_samples=END))


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_a_loader_of_torch_with_workers_is_refused_until_its_state_is_loaded(firehose: Any, kind: Any):
    dataset = firehose(WEB, repeat=True, batch_size=8, max_samples=END)
    loader = kind(dataset, batch_size=None, num_workers=2)
    before = taken(iter(loader), 12)
    with pytest.raises(InvalidOptionError, match="Workers of a DataLoader have already read ahead"):
        dataset.change_mix(CODE)
    dataset.seek(CHANGE)
    recipe = dataset.change_mix(CODE)
    after = list(kind(dataset, batch_size=None, num_workers=2))
    assert ids(before + after) == ids(firehose(recipe, max_samples=END))


def test_a_recipe_goes_through_a_file_with_its_changes(firehose: Any):
    dataset = firehose(WEB, repeat=True)
    taken(iter(dataset), 50)
    saved = dataset.change_mix(CODE, until=1000, steps=10).to_json()
    again = firehose(Recipe.from_json(saved))
    again.load_state_dict(dataset.state_dict())
    assert again.state_dict()["position"] == 50


def test_a_state_after_a_thousand_changes_has_at_most_4_kib(firehose: Any):
    dataset = firehose({"web": 1, "code": 1, "chat": 1}, repeat=True)
    dataset.change_mix({"web": 5, "code": 2, "chat": 97}, at=1000, until=10**6, steps=1000)
    dataset.seek(500_000)
    assert len(json.dumps(dataset.state_dict())) < 4096
    again = firehose(dataset.recipe)
    again.load_state_dict(dataset.state_dict())
    assert next(iter(again))["position"] == 500_000
