"""What the last release wrote is read as before: its home, recipes, states, requests and responses.

`record.py` made release.tar.xz with that release.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

pytest.importorskip("torch")

from google.rpc import error_details_pb2, status_pb2
from tests.compatibility.exchanges import Exchange, Replayer, call, from_json
from tests.compatibility.scenarios import READERS, dataset_of, first_items
from tests.served import Served

from choline_data.order.recipe import Recipe
from choline_data.v1 import firehose_pb2 as pb

REFUSALS = ["INVALID_ARGUMENT", "NOT_FOUND", "NOT_FOUND", "OUT_OF_RANGE"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the home and the record of the last release."""
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(Path(__file__).with_name("release.tar.xz")) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def record(archive: Path) -> dict[str, Any]:
    """What the last release recorded."""
    return json.loads((archive / "record.json").read_bytes())


@pytest.fixture(scope="module")
def channel(archive: Path) -> Iterator[grpc.Channel]:
    """A connection to today's server of the old home."""
    with Served(archive / "home") as served, served.channel() as channel:
        yield channel


@pytest.mark.parametrize("name", READERS)
def test_a_mix_has_the_recipe_and_the_rows_that_it_had(archive, record, name):
    dataset = dataset_of(READERS[name], home=archive / "home")
    assert dataset.recipe.to_json().decode() == record["recipes"][name]
    assert first_items(dataset) == record["items"][name]


@pytest.mark.parametrize("name", READERS)
def test_an_old_recipe_gives_its_rows(archive, record, name):
    recipe = Recipe.from_json(record["recipes"][name].encode())
    assert recipe.to_json().decode() == record["recipes"][name]
    decided = ("mix", "repeat", "shuffle", "on_exhausted")  # by the recipe
    rest = {key: value for key, value in READERS[name].items() if key not in decided}
    assert first_items(dataset_of({"mix": recipe, **rest}, home=archive / "home")) == record["items"][name]


@pytest.mark.parametrize("number", range(16))
def test_an_old_state_continues_with_the_rows_that_it_had(archive, record, number):
    state = record["states"][number]
    dataset = dataset_of(READERS[state["reader"]], home=archive / "home")
    dataset.load_state_dict(state["state"])
    assert first_items(dataset, 12) == state["items"]


def test_there_is_a_test_for_every_recorded_state(record):
    assert len(record["states"]) == 16


@pytest.mark.parametrize("name", READERS)
def test_old_responses_give_todays_client_the_rows_that_they_gave(record, name):
    reader = record["readers"][name]
    replayer = Replayer([from_json(stored) for stored in reader["exchanges"]])
    try:
        assert first_items(dataset_of(READERS[name], server=replayer.address)) == reader["items"]
    finally:
        replayer.close()


def asked_again(channel: grpc.Channel, stored: dict[str, Any]) -> tuple[Exchange, Exchange]:
    """An exchange of the last release, and today's exchange of the same request."""
    old = from_json(stored)
    new = Exchange(old.method, old.request)
    new.answers = list(call(channel, new))
    return old, new


@pytest.mark.parametrize("name", READERS)
def test_old_requests_of_readers_get_equal_answers(channel, record, name):
    for stored in record["readers"][name]["exchanges"]:
        old, new = asked_again(channel, stored)
        assert new == old


def test_old_single_requests_get_equal_answers_and_refusals(channel, record):
    for stored in record["calls"]:
        old, new = asked_again(channel, stored)
        assert (new.answers, new.code) == (old.answers, old.code)
        reason, keys = refused(old)
        assert refused(new)[0] == reason
        assert refused(new)[1] >= keys


def test_the_recorded_calls_have_a_claim_and_refusals(record):
    calls = [from_json(stored) for stored in record["calls"]]
    assert sorted(call.code for call in calls if call.code != "OK") == REFUSALS
    streams = [pb.ReadStreamRequest.FromString(call.request) for call in calls if call.method == "ReadStream"]
    assert [stream.claim.run for stream in streams if stream.HasField("claim")] == ["another"]


def refused(exchange: Exchange) -> tuple[str, set[str]]:
    """The reason of a refusal, and the keys of its metadata. The texts may change between releases."""
    if exchange.code == "OK":
        return "", set()
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(exchange.details).details[0].Unpack(info)
    return info.reason, set(info.metadata)
