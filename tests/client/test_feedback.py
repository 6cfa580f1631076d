"""Feedback from training: bans, skipped steps and losses. Streams stay exact with all of them."""

from __future__ import annotations

import json
import logging
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from tests.client.conftest import MIX, ids, positions
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from choline_data.client.feedback.bans import MOST
from choline_data.client.feedback.outliers import NAMED
from choline_data.errors import DataError, InvalidCursorError, InvalidOptionError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]

MANY = [np.random.default_rng(n).bytes(16) for n in range(MOST)]


def taken(iterator: Any, count: int) -> list[Any]:
    return [sample for _, sample in zip(range(count), iterator, strict=False)]


@pytest.fixture(params=["embedded", "remote"])
def stream(request: pytest.FixtureRequest) -> Any:
    """Makes datasets of one home, read here or from a server."""
    return request.getfixturevalue("firehose" if request.param == "embedded" else "remote")


# --- Bans


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"transform": dict}, {"batch_tokens": 20}])
def test_banned_samples_are_left_out_and_every_other_stays_where_it_was(stream: Any, options: dict[str, Any]):
    dataset = stream(reshuffle=False, **options)
    whole = ids(stream(**options))
    banned = [whole[3], whole[4], whole[5], whole[100], whole[449]]
    dataset.ban(banned)
    assert ids(dataset) == [one for one in whole if one not in banned]
    assert dataset.stats()["banned"] == 5
    assert positions(dataset) == [p for p in range(450) if p not in (3, 4, 5, 100, 449)]


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"transform": dict, "batch_size": 5}])
def test_a_ban_holds_from_the_next_sample_or_batch_on(stream: Any, options: dict[str, Any]):
    dataset = stream(**options)
    whole = ids(stream())
    reading = iter(dataset)
    got = ids(taken(reading, 4))
    dataset.ban(whole[2:30:7])
    assert dataset.state_dict()["position"] == len(got)
    assert got + ids(reading) == whole[: len(got)] + [w for w in whole[len(got) :] if w not in whole[2:30:7]]


@pytest.mark.parametrize("batch", [None, 4])
def test_a_stream_with_bans_resumes_exactly_at_every_index(firehose: Any, batch: int | None):
    options = {"max_samples": 40, "batch_size": batch}
    banned = ids(firehose(max_samples=40))[4:36:5]
    dataset = firehose(**options)
    dataset.ban(banned)
    whole = ids(dataset)
    assert len(whole) == 33
    steps = sum(1 for _ in dataset)
    for count in range(steps):
        dataset = firehose(**options)
        dataset.ban(banned)
        before = ids(taken(iter(dataset), count))
        state = json.loads(json.dumps(dataset.state_dict()))
        again = firehose(**options)
        again.load_state_dict(state)
        assert again.banned == sorted(banned)
        assert again.state_dict()["banned"] == state["banned"]
        assert before + ids(again) == whole


def test_any_number_of_ranks_gives_the_same_samples_under_the_same_bans(firehose: Any):
    whole = ids(firehose())
    banned = whole[0:40:3]
    for world in (1, 2, 3, 8):
        ranks = [firehose(rank=r, world_size=world, batch_size=24 // world) for r in range(world)]
        for rank in ranks:
            rank.ban(banned)
        steps = [taken(iter(rank), 5) for rank in ranks]
        got = [sorted(i for rank in steps for i in rank[step]["id"]) for step in range(5)]
        assert got == [sorted(set(whole[s * 24 : s * 24 + 24]) - set(banned)) for s in range(5)]


def test_a_state_with_bans_goes_to_other_ranks(firehose: Any):
    whole = ids(firehose())
    first = [firehose(rank=r, world_size=2, batch_size=10) for r in range(2)]
    for rank in first:
        rank.ban(whole[10:50:4])
        got = taken(iter(rank), 2)
        assert len(got) == 2
    seen = []
    for number in range(5):
        dataset = firehose(rank=number, world_size=5, batch_size=4)
        dataset.load_state_dict(first[0].state_dict())
        seen += ids(dataset)
    assert sorted(seen) == sorted(w for n, w in enumerate(whole) if n >= 40 and w not in whole[10:50:4])


def test_ranks_make_equally_many_steps_also_where_all_that_one_of_them_has_is_banned(stream: Any):
    whole = ids(stream())
    banned = whole[20:24] + whole[24:26] + whole[446:450]
    steps = []
    for rank in range(3):
        dataset = stream(rank=rank, world_size=3, batch_size=4, last_batch="drop")
        dataset.ban(banned)
        steps.append([batch["id"] for batch in dataset])
        assert all(steps[-1])
    assert [len(s) for s in steps] == [37, 37, 37]
    assert steps[2][1] == [whole[26]]  # positions 20 … 23: the next sample that is not banned stands in
    assert steps[0][2] == whole[26:28]


def test_bans_hold_in_every_epoch(firehose: Any):
    dataset = firehose("chat", repeat=True, max_samples=180)
    worst = ids(taken(iter(dataset), 1))
    dataset.ban(worst)
    assert len(ids(dataset)) == 177 and worst[0] not in ids(dataset)


def test_bans_can_be_lifted(firehose: Any):
    dataset = firehose(reshuffle=False)
    whole = ids(dataset)
    dataset.ban(whole[7].hex())
    assert dataset.banned == [whole[7]]
    dataset.unban()
    assert ids(dataset) == whole
    assert dataset.state_dict()["banned"] == ""


def test_a_state_with_all_the_bans_there_may_be_has_at_most_4_kib(firehose: Any):
    dataset = firehose(batch_size=4, run="r" * 64)
    dataset.ban(MANY)
    next(iter(dataset))
    state = dataset.state_dict()
    assert all(isinstance(value, (int, str)) for value in state.values())
    assert len(json.dumps(state)) < 4096
    again = firehose(batch_size=4)
    again.load_state_dict(state)
    assert len(again.banned) == MOST
    with pytest.raises(InvalidOptionError, match=r"a state has room for 128.*`where=`"):
        again.ban([b"x" * 16])


def test_a_state_of_a_hundred_sources_has_room_for_bans(tmp_path: Any):
    from tests.conftest import Shelf

    from choline_data.client import FirehoseDataset

    shelf = Shelf(tmp_path / "home")
    for number in range(100):
        shelf.add(f"a-rather-long-name-{number}", {"text": [f"row {number} {n}" for n in range(3)]})
    dataset = FirehoseDataset({f"a-rather-long-name-{n}": n + 1 for n in range(100)}, home=shelf.home.location)
    dataset.ban(MANY)
    assert len(json.dumps(dataset.state_dict())) < 4096


def test_damaged_bans_in_a_state_are_refused(firehose: Any):
    dataset = firehose()
    dataset.ban(ids(firehose())[:3])
    state = dataset.state_dict()
    for bad in (state["banned"][:-5], state["banned"].replace(":", ":0", 1), "x", 7, "a:" + "0" * 5000):
        with pytest.raises(InvalidCursorError):
            firehose().load_state_dict({**state, "banned": bad})


def test_what_is_no_id_is_refused(firehose: Any):
    for bad in ([3], ["zz"], [b"short"], "abc"):
        with pytest.raises(InvalidOptionError, match="not the id of a sample"):
            firehose().ban(bad)


def test_packed_rows_have_no_id_to_ban(firehose: Any):
    with pytest.raises(InvalidOptionError, match=r"skip\(steps\)"):
        firehose("web", view="tokens", seq_len=64).ban([b"x" * 16])


def test_a_stream_of_which_all_is_banned_says_so(firehose: Any):
    dataset = firehose("chat", repeat=True, batch_size=4)
    dataset.ban(ids(firehose("chat")))
    with pytest.raises(DataError, match="unban"):
        next(iter(dataset))


# --- Steps to go past


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"batch_size": 8, "world_size": 2, "rank": 1}])
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_skipping_is_as_if_the_steps_had_been_given(stream: Any, options: dict[str, Any], steps: int):
    given = stream(**options)
    reading = iter(given)
    taken(reading, 3 + steps)
    skipped = stream(**options)
    shorter = iter(skipped)
    taken(shorter, 3)
    skipped.skip(steps)
    assert skipped.state_dict() == given.state_dict()
    assert ids(shorter) == ids(reading)


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 8}, {"batch_tokens": 30}, {"batch_tokens": 30, "world_size": 2}]
)
def test_skipping_before_the_first_step_is_the_same(firehose: Any, options: dict[str, Any]):
    options = {**options, "rank": 0} if "world_size" in options else options
    given = firehose(**options)
    reading = iter(given)
    taken(reading, 6)
    skipped = firehose(**options)
    skipped.skip(2)
    skipped.skip(4)
    assert skipped.state_dict()["position"] == given.state_dict()["position"]
    assert ids(skipped) == ids(reading)


def test_skipping_past_the_end_is_the_next_pass(firehose: Any):
    dataset = firehose(batch_size=8)
    dataset.skip(1000)
    assert (dataset.state_dict()["position"], dataset.state_dict()["epoch"]) == (0, 1)
    reading = iter(dataset)
    next(reading)
    dataset.skip(1000)
    assert list(reading) == []
    assert (dataset.state_dict()["position"], dataset.state_dict()["epoch"]) == (0, 2)


def test_steps_to_skip_are_a_number(firehose: Any):
    for bad in (-1, 2.5, True):
        with pytest.raises(InvalidOptionError, match="whole number"):
            firehose().skip(bad)


# --- Loaders


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_loader_skips_and_bans_exactly_whatever_its_workers(firehose: Any, workers: int, persistent: bool):
    dataset = firehose(batch_size=5)
    whole, following = ids(dataset), ids(dataset)
    loader = firehose(batch_size=5).loader(num_workers=workers, persistent_workers=persistent)
    reading = iter(loader)
    assert ids(taken(reading, 3)) == whole[:15]
    loader.skip(4)
    assert loader.state_dict()["position"] == 35
    assert ids(taken(reading, 1)) == whole[35:40]
    loader.ban(whole[42:50:2])
    state = loader.state_dict()
    assert state["position"] == 40
    rest = [w for w in whole[40:] if w not in whole[42:50:2]]
    assert ids(reading) == rest
    again = firehose(batch_size=5).loader(num_workers=0)
    again.load_state_dict(state)
    assert ids(again) == rest
    assert ids(loader) == ids(again) == [w for w in following if w not in whole[42:50:2]]


def test_a_dataset_reaches_the_loader_that_was_made_of_it(firehose: Any):
    dataset = firehose(batch_size=5)
    loader = dataset.loader(num_workers=1)
    whole = ids(firehose())
    reading = iter(loader)
    next(reading)
    dataset.ban(whole[6:8])
    assert ids([next(reading)]) == [whole[5], whole[8], whole[9]]


def test_workers_that_would_not_hear_of_it_are_named(firehose: Any):
    dataset = firehose(batch_size=5)
    for kind in (DataLoader, StatefulDataLoader):
        loader = kind(dataset, batch_size=None, num_workers=1)
        reading = iter(loader)
        next(reading)
        with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
            dataset.skip(1)
        with pytest.raises(InvalidOptionError, match=r"dataset\.loader\(\)"):
            dataset.ban([b"x" * 16])
    dataset.load_state_dict(loader.state_dict())
    dataset.skip(1)
    assert dataset.state_dict()["position"] == 10


# --- Losses


def losses_of(batch: Any, turn: np.random.Generator) -> torch.Tensor:
    """Returns a loss for each row. Each dataset has its own level and spread of losses."""
    level = {"web": 3.0, "code": 1.0, "chat": 8.0}
    return torch.tensor([level[name] * (1 + 0.1 * turn.standard_normal()) for name in batch["dataset"]])


@pytest.mark.parametrize("by", ["id", "position", "batch"])
def test_a_spike_names_the_rows_that_stand_out_from_their_own_dataset(stream: Any, by: str):
    dataset = stream(repeat=True, batch_size=16)
    turn = np.random.default_rng(3)
    for number, batch in zip(range(60), dataset, strict=False):
        losses = losses_of(batch, turn)
        if number == 50:
            codes = [n for n, name in enumerate(batch["dataset"]) if name == "code"][:2]
            losses[codes] = 7.0  # high for code, and nothing for chat
            spiked = {batch["id"][n] for n in codes}
        assert dataset.report(batch if by == "batch" else batch[by], losses) is (number == 50)
    worst = dataset.outliers(2)
    assert {row["id"] for row in worst} == spiked
    assert {row["dataset"] for row in worst} == {"code"}
    assert all(800 <= row["position"] < 816 and row["loss"] == 7.0 and row["score"] > 10 for row in worst)
    assert worst[0]["median"] == pytest.approx(1.0, rel=0.1)
    assert dataset.stats()["spikes"] == 1
    dataset.ban(row["id"] for row in worst)
    assert not spiked & set(ids(taken(iter(dataset), 30)))


def test_a_loss_that_is_no_number_is_a_spike_and_moves_no_median(firehose: Any):
    dataset = firehose(batch_size=4)
    batch = next(iter(dataset))
    assert dataset.report(batch["id"], [1.0, math.nan, 1.0, math.inf])
    assert [row["position"] for row in dataset.outliers(2)] == [1, 3]
    medians = [held["median"] for held in dataset.stats()["losses"].values()]
    assert all(m == 1.0 for m in medians)


@pytest.mark.parametrize("noise", ["normal", "exponential", "log-normal", "student t"])
def test_plain_noise_is_rarely_a_spike_and_a_real_one_is_found(firehose: Any, noise: str):
    false = missed = 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        of = {
            "normal": lambda count: 3 + draw.standard_normal(count),  # noqa: B023
            "exponential": lambda count: draw.exponential(1, count),  # noqa: B023
            "log-normal": lambda count: np.exp(draw.standard_normal(count)),  # noqa: B023
            "student t": lambda count: 3 + draw.standard_t(3, count),  # noqa: B023
        }[noise]
        data = firehose(batch_size=16)
        for step, batch in zip(range(151), data, strict=False):
            losses = of(len(batch["position"]))
            if step < 150:
                false += data.report(batch, losses)
            else:
                missed += not data.report(batch, losses + 20)
    assert false <= 2  # of 1,500 steps
    assert missed == 0


def test_losses_of_samples_and_of_batches_before_the_last_are_found(firehose: Any):
    dataset = firehose(batch_size=8)
    reading = iter(dataset)
    batches = taken(reading, 1)
    dataset.report(batches[0]["id"], [1.0] * 8)
    batches = taken(reading, 4)
    for batch in batches:
        dataset.report(batch["id"], [1.0] * 8)
    dataset.report(batches[0]["id"][:3] + batches[2]["id"][:3], [1.0] * 6)
    assert sum(held["rows"] for held in dataset.stats()["losses"].values()) == 46
    single = firehose()
    sample = next(iter(single))
    single.report([sample["id"]], [2.0])
    assert single.stats()["losses"][sample["dataset"]]["rows"] == 1


def test_rows_that_this_process_never_gave_are_told_once_and_left_out(firehose: Any, caplog: pytest.LogCaptureFixture):
    dataset = firehose(batch_size=4)
    batch = next(iter(dataset))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            dataset.report([b"x" * 16, batch["id"][0]], [5.0, 1.0])
    assert caplog.text.count("not among the last") == 1
    assert sum(held["rows"] for held in dataset.stats()["losses"].values()) == 3


@pytest.mark.parametrize("losses", [[1.0], 1.0, [[1.0], [1.0]], ["a", "b"]])
def test_losses_that_are_not_one_a_row_are_refused(firehose: Any, losses: Any):
    dataset = firehose(batch_size=2)
    batch = next(iter(dataset))
    with pytest.raises(InvalidOptionError, match=r"losses|numbers"):
        dataset.report(batch["id"], losses)


def test_losses_of_packed_rows_are_reported_by_position(firehose: Any):
    dataset = firehose("web", view="tokens", seq_len=16, batch_size=4, format="hf")
    for batch in dataset:
        dataset.report(batch["position"], torch.ones(len(batch["position"])))
    assert dataset.stats()["losses"]["web"]["median"] == 1.0


def test_a_report_of_a_loader_with_workers_finds_its_rows(firehose: Any):
    loader = firehose(batch_size=8).loader(num_workers=2)
    for batch in loader:
        loader.report(batch["id"], torch.ones(len(batch["id"])))
    assert sum(held["rows"] for held in loader.stats()["losses"].values()) == 450


def test_what_is_kept_of_losses_is_bounded(firehose: Any):
    dataset = firehose(repeat=True, batch_size=64)
    batches, held = iter(dataset), []
    tracemalloc.start()
    for _ in range(3):
        for _ in range(300):  # 19,200 samples
            dataset.report(next(batches)["id"], np.full(64, math.nan))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[2] - held[1] < 500_000  # 26 bytes a sample
    assert len(dataset.outliers(10**6)) == 64 <= NAMED


def test_bans_and_skips_say_the_same_from_any_recipe_form(firehose: Any):
    dataset = firehose(MIX, batch_size=4)
    again = firehose(dataset.recipe, batch_size=4)
    for one in (dataset, again):
        one.ban(ids(firehose())[:6])
        one.skip(1)
    assert ids(dataset) == ids(again) == ids(firehose())[6:]


def test_losses_stay_with_their_datasets_when_another_joins(firehose: Any):
    dataset = firehose({"web": 1, "code": 1}, repeat=True, batch_size=8)
    batches = iter(dataset)
    for _ in range(20):
        batch = next(batches)
        dataset.report(batch, [1.0 if name == "web" else 2.0 for name in batch["dataset"]])
    before = dataset.feedback.losses()
    dataset.change_mix({"web": 1, "code": 1, "chat": 2})
    after = dataset.feedback.losses()
    assert {name: after[name] for name in before} == before
    assert "chat" not in after
    batch = next(batches)
    assert "chat" in batch["dataset"]
    dataset.report(batch, [1.0] * 8)
    assert dataset.feedback.losses()["chat"]["rows"] == list(batch["dataset"]).count("chat")
