"""The formats for fine-tuning: which columns a row gets, and which rows are refused."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.conftest import Shelf
from tests.served import Served

from choline_data.catalog.add import ingest, prepare
from choline_data.client import FirehoseDataset
from choline_data.client.making.training_shapes import SHAPES, TrainingShape
from choline_data.errors import DataError, InvalidOptionError
from choline_data.places.home import Home

ASK = {"role": "user", "content": "2 + 2?"}
SAY = {"role": "assistant", "content": "4"}
TOOLS = [{"name": "add", "parameters": {"type": "object"}}]


def said(role: str, content: str | None) -> dict[str, Any]:
    return {"role": role, "content": content}


def label(value: str) -> list[dict[str, Any]]:
    return [{"name": value, "value": value, "score": None}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset of each kind that a trainer reads, and one of each fault."""
    folder = tmp_path_factory.mktemp("shapes") / "home"
    shelf = Shelf(folder)

    def add(name: str, kind: str, *turns: list[dict[str, Any]], **columns: list[Any]) -> None:
        shelf.add(name, {**({"turns": list(turns)} if turns else {}), **columns}, kind=kind)

    add("chat", "chat", [said("system", "Be brief."), ASK, SAY], [ASK, SAY, ASK, said("assistant", None)])
    add("qa", "qa", [ASK, SAY])
    add("tools", "chat", [ASK, SAY], extra=[orjson.dumps({"tools": orjson.dumps(TOOLS).decode()}).decode()])
    add("open", "chat", [ASK, SAY], [ASK], [ASK, SAY, said("tool", "5")])
    add("pairs", "preference", [ASK, said("chosen", "4"), said("rejected", "5")])
    add("bare", "preference", [said("chosen", "4"), said("rejected", "5")])
    joined = "assistant: 4\n\nuser: sure?\n\nassistant: yes"
    add("joined", "preference", [ASK, said("chosen", joined), said("rejected", "5")])
    add("thumbs", "preference", [ASK, SAY], [ASK, SAY], label=[label("true"), label("False")])
    add("stars", "preference", [ASK, SAY], label=[label("4")])
    add("words", "text", text=["one", "two"])
    picture = [{"mime": "image/png", "data": b"x", "uri": None, "width": None, "height": None, "rate": None}]
    add("seen", "chat", [ASK, SAY], media=[picture])
    return folder


def read(home: Path, name: str, form: str, **options: Any) -> list[Any]:
    return list(FirehoseDataset(name, home=home, repeat=False, shuffle=False, format=form, **options))


def test_chats_and_questions_have_messages(home: Path):
    first, second = read(home, "chat", "messages")
    assert first == {"messages": [said("system", "Be brief."), ASK, SAY], "tools": None}
    assert second["messages"][3] == said("assistant", "")
    assert read(home, "qa", "messages") == [{"messages": [ASK, SAY], "tools": None}]


def test_the_functions_of_a_row_are_json_text(home: Path):
    assert orjson.loads(read(home, "tools", "messages")[0]["tools"]) == TOOLS


def test_the_last_reply_is_the_completion(home: Path):
    assert read(home, "chat", "prompt-completion")[0] == {
        "prompt": [said("system", "Be brief."), ASK],
        "completion": [SAY],
    }


def test_a_preference_has_a_prompt_and_two_replies_of_the_assistant(home: Path):
    expected = {"prompt": [ASK], "chosen": [SAY], "rejected": [said("assistant", "5")]}
    assert read(home, "pairs", "preference") == [expected]


def test_a_label_of_kto_is_a_bool(home: Path):
    rows = read(home, "thumbs", "kto")
    assert [row["label"] for row in rows] == [True, False]
    assert rows[0]["prompt"] == [ASK]
    assert rows[0]["completion"] == [SAY]


def test_a_text_is_alone(home: Path):
    assert read(home, "words", "text") == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize(
    ("name", "form", "why"),
    [
        ("words", "messages", "has no turns"),
        ("pairs", "messages", "is a preference"),
        ("thumbs", "messages", "is a preference"),
        ("thumbs", "prompt-completion", "is a preference"),
        ("seen", "messages", "has media"),
        ("open", "prompt-completion", "does not end with a reply"),
        ("tools", "prompt-completion", "declares tools"),
        ("chat", "preference", "has no chosen and rejected reply"),
        ("bare", "preference", "has no prompt"),
        ("joined", "preference", "has a chosen reply of several turns"),
        ("pairs", "kto", "has a turn with the role 'chosen'"),
        ("chat", "kto", "has no label"),
        ("stars", "kto", "has the label '4'"),
        ("chat", "text", "has no text"),
    ],
)
def test_a_row_that_cannot_have_the_columns_is_named(home: Path, name: str, form: str, why: str):
    identity = [
        row["id"].hex() for row in FirehoseDataset(name, home=home, repeat=False, shuffle=False, columns=["kind"])
    ]
    with pytest.raises(DataError, match=why) as raised:
        read(home, name, form)
    assert raised.value.metadata["dataset"] == name
    assert raised.value.metadata["id"] in identity


def test_skip_leaves_such_rows_out_and_counts_them(home: Path, caplog: pytest.LogCaptureFixture):
    dataset = FirehoseDataset(
        "open", home=home, repeat=False, shuffle=False, format="prompt-completion", on_error="skip"
    )
    with caplog.at_level(logging.WARNING):
        assert list(dataset) == [{"prompt": [ASK], "completion": [SAY]}]
    assert len([record for record in caplog.records if "skipped position" in record.getMessage()]) == 2


def test_a_batch_has_lists_of_the_columns(home: Path):
    (batch,) = read(home, "thumbs", "kto", batch_size=2)
    assert batch == {"prompt": [[ASK], [ASK]], "completion": [[SAY], [SAY]], "label": [True, False]}


def test_the_features_of_a_dataset_are_its_columns(home: Path):
    for name, form in {
        "chat": "messages",
        "qa": "prompt-completion",
        "pairs": "preference",
        "thumbs": "kto",
        "words": "text",
    }.items():
        dataset = FirehoseDataset(name, home=home, repeat=False, format=form)
        assert dataset.features == list(next(iter(dataset)))


def test_a_misspelled_format_lists_the_formats_of_samples(home: Path):
    with pytest.raises(InvalidOptionError, match="prompt-completion"):
        FirehoseDataset("chat", home=home, format="mesages")


def test_real_preferences_equal_their_source(shared_data: Path, tmp_path: Path):
    home = Home(tmp_path / "home")
    for name in ("dpo", "kto"):
        ingest(home, prepare(home, str(shared_data / f"preference/{name}_en_demo.json"), name=name))
    source = orjson.loads((shared_data / "preference/dpo_en_demo.json").read_bytes())
    pairs = read(tmp_path / "home", "dpo", "preference")
    for kind in ("chosen", "rejected"):
        assert [row[kind][0]["content"] for row in pairs] == [row[kind]["value"] for row in source]
    source = orjson.loads((shared_data / "preference/kto_en_demo.json").read_bytes())
    replies = read(tmp_path / "home", "kto", "kto")
    assert [[*row["prompt"], *row["completion"]] for row in replies] == [row["messages"] for row in source]
    assert [row["label"] for row in replies] == [row["label"] for row in source]


def test_a_transform_gets_the_columns(home: Path):
    assert read(home, "words", "text", transform=dict.keys)[0] == {"text"}


def test_a_state_resumes_between_rows(home: Path):
    options = {"home": home, "repeat": False, "format": "text"}
    whole = list(FirehoseDataset("words", **options))
    first = FirehoseDataset("words", **options)
    begun = [next(iter(first))]
    second = FirehoseDataset("words", **options)
    second.load_state_dict(first.state_dict())
    assert begun + list(second) == whole


def test_a_server_gives_the_same_columns(home: Path):
    with Served(home) as server:
        for name, form in {"tools": "messages", "pairs": "preference", "thumbs": "kto", "words": "text"}.items():
            remote = FirehoseDataset(name, server=server.address, repeat=False, shuffle=False, format=form)
            assert list(remote) == read(home, name, form)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("wrong", [{"view": "text"}, {"columns": ["text"]}, {"decode": "pil"}])
def test_an_option_that_the_format_decides_is_refused(home: Path, form: str, wrong: dict[str, Any]):
    with pytest.raises(InvalidOptionError, match=form):
        FirehoseDataset("words", home=home, format=form, **wrong)


@pytest.mark.parametrize("form", SHAPES)
def test_a_shape_goes_to_workers(form: str):
    assert pickle.loads(pickle.dumps(TrainingShape(form))) == TrainingShape(form)
