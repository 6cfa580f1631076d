"""Other weights from a position on: each source goes on where it stood, and what was before stays as it was."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

WEB, CODE = {"web": 3, "code": 1}, {"web": 1, "code": 3}
CHANGE, END = 96, 240


def rows(samples: list[Any]) -> dict[str, list[int]]:
    """The rows of each dataset, in the order in which they came."""
    found = defaultdict(list)
    for sample in samples:
        found[sample["dataset"]].append(sample["origin"]["row"])
    return found


@pytest.mark.parametrize("place", ["firehose", "remote"])
def test_other_weights_lose_and_repeat_nothing(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    options = {"repeat": True, "max_samples": END, "shuffle": False}
    before = make(WEB, **options)
    after = make(before.recipe.with_segment(CHANGE, CODE), max_samples=END)
    old, new = list(before), list(after)
    assert new[:CHANGE] == old[:CHANGE]
    assert new[CHANGE:] != old[CHANGE:]
    got = rows(new)
    assert got == {"web": list(range(len(got["web"]))), "code": [row % 90 for row in range(len(got["code"]))]}
    assert abs(len(got["web"]) - (CHANGE * 3 + (END - CHANGE)) / 4) <= 24


@pytest.mark.parametrize("place", ["firehose", "remote"])
def test_a_checkpoint_from_before_the_change_goes_on_with_it(request: pytest.FixtureRequest, place: str):
    make = request.getfixturevalue(place)
    before = make(WEB, repeat=True, batch_size=8)
    batches = iter(before)
    for _ in range(7):
        next(batches)
    after = make(before.recipe.with_segment(CHANGE, CODE), batch_size=8, max_samples=END)
    after.load_state_dict(before.state_dict())
    got = [batch["id"] for batch in after]
    whole = [batch["id"] for batch in make(after.recipe, batch_size=8, max_samples=END)]
    assert got == whole[7:]


def test_a_source_may_join(firehose: Any):
    before = firehose({"web": 1}, repeat=True, seed=2)
    joined = firehose({"web": 1, "chat": 1}, repeat=True, seed=2).recipe
    after = firehose(before.recipe.with_segment(CHANGE, {"web": 1, "chat": 1}, joined.sources), max_samples=END)
    samples = list(after)
    assert {sample["dataset"] for sample in samples[:CHANGE]} == {"web"}
    assert 60 <= sum(sample["dataset"] == "chat" for sample in samples[CHANGE:]) <= 84
    after.load_state_dict({**before.state_dict(), "position": CHANGE})
    assert list(after) == samples[CHANGE:]
