"""`cards check` against a small hub: each fact of a card is right, differs, or cannot be verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from choline_data.catalog.card_check import DIFFERS, RIGHT, UNVERIFIABLE, check_card
from choline_data.catalog.cards import parse_card
from choline_data.cli.app import app
from choline_data.places import downloads

pytest.importorskip("huggingface_hub")

CARD = """
name: rivers
source: hf://datasets/o/rivers
configs: [en, de]
config: en
split: train
kind: text
form: document
mapping: {text: body}
license: MIT
gate: "no"
size: 300 / 20
"""
INFO = [
    {
        "config_name": name,
        "features": [{"name": "body", "dtype": "string"}],
        "splits": [{"name": "train", "num_examples": 300}, {"name": "test", "num_examples": 20}],
    }
    for name in ("en", "de")
]
CONFIGS = [{"config_name": "en", "data_files": "en.csv"}, {"config_name": "de", "data_files": "de.csv"}]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from fake_hub import FakeRepo, serving_hub

    files = {"en.csv": b"body\nA river\n", "README.md": b""}
    rivers = FakeRepo(files, {"license": "mit", "dataset_info": INFO, "configs": CONFIGS})
    with serving_hub({"o/rivers": rivers, "o/new": rivers}) as server:
        monkeypatch.setattr(downloads, "WAITS", (0.0,))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def states(text: str) -> dict[str, str]:
    return {fact.field: fact.state for fact in check_card(parse_card(text))}


def test_a_card_that_agrees_with_the_hub_is_right(hub):
    fields = ("source", "files", "gate", "license", "configs", "config", "split", "size", "mapping")
    assert states(CARD) == dict.fromkeys(fields, RIGHT)


@pytest.mark.parametrize(
    ("field", "was", "now"),
    [
        ("license", "license: MIT", "license: Apache-2.0"),
        ("gate", 'gate: "no"', "gate: auto"),
        ("configs", "configs: [en, de]", "configs: [en]"),
        ("configs", "configs: [en, de]", "configs: [en, de, fr]"),
        ("config", "config: en", "config: fr"),
        ("split", "split: train", "split: validation"),
        ("size", "size: 300 / 20", "size: 301"),
        ("size", "size: 300 / 20", "size: 2k"),
        ("mapping", "text: body", "text: content"),
    ],
)
def test_a_fact_that_differs_from_the_hub_is_named(hub, field, was, now):
    found = states(CARD.replace(was, now))
    assert [name for name, state in found.items() if state == DIFFERS] == [field]


@pytest.mark.parametrize("size", ["300", "640", "0.3k", "~310", "320 / 640", "300 rows, 2 GB, 5M tokens"])
def test_a_size_may_count_a_split_a_config_or_all_rows(hub, size):
    assert states(CARD.replace("300 / 20", size))["size"] == RIGHT


def test_what_the_hub_does_not_state_cannot_be_verified(hub):
    hub.repos["o/rivers"].card = {"size_categories": ["n<1K"]}
    found = states(CARD.replace("300 / 20", "300"))
    assert {field for field, state in found.items() if state == UNVERIFIABLE} == {
        "license",
        "configs",
        "config",
        "split",
        "size",
        "mapping",
    }
    assert states(CARD.replace("300 / 20", "3M"))["size"] == DIFFERS  # outside of size_categories
    assert states(CARD.replace("300 / 20", "12 GB"))["size"] == UNVERIFIABLE


def test_a_gated_renamed_emptied_or_script_only_dataset_is_named(hub):
    repo = hub.repos["o/rivers"]
    repo.gated = "manual"
    assert states(CARD)["gate"] == DIFFERS
    repo.files = {"rivers.py": b"print()", "README.md": b""}
    assert states(CARD)["files"] == DIFFERS
    repo.files = {"README.md": b""}
    assert states(CARD)["files"] == DIFFERS
    from fake_hub import FakeRepo

    hub.repos["o/rivers"] = FakeRepo({}, renamed_to="o/new")
    assert states(CARD)["source"] == DIFFERS
    assert states(CARD.replace("o/rivers", "o/none")) == {"source": DIFFERS}


def test_the_command_exits_with_1_if_a_fact_differs(hub, tmp_path):
    (tmp_path / "rivers.yaml").write_text(CARD)
    done = CliRunner().invoke(app, ["cards", "check", str(tmp_path / "rivers.yaml")])
    assert (done.exit_code, "differs" in done.stdout) == (0, False)
    (tmp_path / "rivers.yaml").write_text(CARD.replace("MIT", "Apache-2.0"))
    done = CliRunner().invoke(app, ["cards", "check", str(tmp_path / "rivers.yaml"), "--json"])
    assert done.exit_code == 1
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"name": "rivers", "field": "license", "state": "differs", "card": "Apache-2.0", "hub": "MIT"} in facts
