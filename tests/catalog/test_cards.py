"""Cards: valid and invalid keys and values, and the validity of all packaged cards."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from choline_data.catalog.cards import (
    EVIDENCE,
    FACTS,
    GATES,
    Card,
    card_for,
    load_card,
    packaged_cards,
    packaged_names,
    parse_card,
)
from choline_data.errors import (
    CholineDataError,
    ForbiddenLocationError,
    InvalidNameError,
    InvalidOptionError,
    SourceFormatError,
    SourceNotFoundError,
    UnknownDatasetError,
    UnknownFieldError,
)
from choline_data.schema import KINDS

MINIMAL = "name: rivers\nsource: hf://datasets/someone/rivers\n"
ROOT = Path(__file__).parents[2]


def test_a_card_needs_a_name_and_a_source_and_no_more() -> None:
    card = parse_card(MINIMAL)
    assert (card.name, card.source) == ("rivers", "hf://datasets/someone/rivers")
    assert (card.license, card.gate, card.revision) == ("NOASSERTION", "unknown", "")
    with pytest.raises(SourceFormatError, match=r"a\.yaml has no `source`"):
        parse_card("name: rivers", "a.yaml")


def test_every_value_is_the_text_that_was_written() -> None:
    card = parse_card(MINIMAL + "gate: no\nlanguages: [no, en]\nrevision: 1.10\nsize: 0123\n")
    assert (card.gate, card.languages, card.revision, card.size) == ("no", ("no", "en"), "1.10", "0123")


def test_an_empty_value_is_one_that_is_not_known() -> None:
    card = parse_card(MINIMAL + "revision:\nkind: ~\nmapping:\ntags: []\n")
    assert (card.revision, card.kind, card.mapping, card.tags) == ("", "", (), ())


def test_a_hubs_licence_word_becomes_its_spdx_id() -> None:
    assert parse_card(MINIMAL + "license: odc-by").license == "ODC-By-1.0"


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UnknownFieldError, match=r"rivers\.yaml: no field 'licence'\. Did you mean 'license'"):
        parse_card(MINIMAL + "licence: MIT", "rivers.yaml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kind: chats", "Did you mean 'chat'"),
        ("gate: yes", "one of no, auto, manual, unknown"),
        ("tags: {a: b}", "`tags` must be a list of texts"),
        ("title: [a]", "`title` must be one text"),
        ("mapping: [text]", "`mapping` must be a mapping"),
        ("mapping: {text: [a, b]}", "`mapping` must be a mapping"),
        ("license: see the web site", "is not an SPDX id"),
        ("evidence: {fields: hearsay}", "can't be 'hearsay'"),
        ("evidence: {field: card}", "Did you mean 'fields'"),
    ],
)
def test_a_value_that_can_not_be_says_what_can(line: str, said: str) -> None:
    with pytest.raises((InvalidOptionError, UnknownFieldError), match=said):
        parse_card(MINIMAL + line)


@pytest.mark.parametrize("name", ["Rivers", "a..b", "-a", ".a", "a/b", "a b", "é", "a" * 129])
def test_a_name_outside_the_pattern_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match="can't be the name of a dataset"):
        parse_card(f'name: "{name}"\nsource: x')


def test_a_source_is_checked_like_every_location() -> None:
    with pytest.raises(ForbiddenLocationError):
        parse_card("name: a\nsource: simplecache::file:///etc/hostname")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + "name: lakes", "line 3 has the key 'name' a second time"),
        ("name: &a rivers\nsource: x", "an anchor or alias"),
        ("name: !!python/object/apply:os.getcwd []\nsource: x", "line 1 has the tag"),
        ("? [a]\n: b", "a key that is not text"),
        ("tags: " + "[" * 20 + "]" * 20, "more than 8 levels"),
        ("tags: " + "[" * 2000, "more than 8 levels|is not YAML"),  # as deep as the library reads, or deeper
        (MINIMAL + "---\n" + MINIMAL, "a second document"),
        ("name: 'rivers", "is not YAML"),
        ("name: a\x00b", "is not YAML"),
        ("- a\n- b", "has no `key: value` lines"),
        ("", "has no `key: value` lines"),
    ],
)
def test_yaml_that_is_more_than_keys_and_texts_is_refused(text: str, said: str) -> None:
    with pytest.raises(SourceFormatError, match=said):
        parse_card(text)


def test_a_card_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rivers.yaml"
    file.write_text(MINIMAL, "utf-8")
    assert load_card(file) == load_card(str(file)) == parse_card(MINIMAL)


def test_a_file_that_is_no_card_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no card"):
        load_card(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SourceFormatError, match="not UTF-8"):
        load_card(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * 300_000)
    with pytest.raises(SourceFormatError, match="has more than 262,144 bytes"):
        load_card(tmp_path / "big.yaml")
    with pytest.raises(CholineDataError):
        load_card(tmp_path)


def test_a_hostile_card_is_refused_in_one_line(shared_hostile_config: Path) -> None:
    for name in ("alias_bomb.yaml", "dup_keys.yaml", "norway.yaml", "python_tag.yaml"):
        with pytest.raises(CholineDataError) as caught:
            load_card(shared_hostile_config / name)
        assert "\n" not in str(caught.value)


@pytest.fixture
def shared_hostile_config() -> Path:
    data = Path(os.environ.get("CHOLINE_TEST_DATA", ROOT.parent / "shared" / "data"))
    place = data / "hostile" / "config"
    if not place.is_dir():
        pytest.skip("needs the shared test data: set CHOLINE_TEST_DATA or put it at ../shared/data")
    return place


def test_there_are_cards_for_the_public_datasets() -> None:
    assert len(packaged_cards()) >= 150
    assert tuple(packaged_cards()) == packaged_names()


@pytest.mark.parametrize("name", packaged_names())
def test_a_packaged_card_is_sound(name: str) -> None:
    card = card_for(name)
    assert card.name == name
    assert card.source.startswith("hf://datasets/")
    assert card.source.count("/") == 4
    assert card.title
    assert card.description.endswith(".")
    assert card.kind in KINDS
    assert card.tags
    assert bool(card.form) == bool(card.mapping)
    assert not card.config or not card.configs or _listed(card.config, card.configs)
    assert card.license == "NOASSERTION" or "license" in dict(card.evidence)
    assert not card.size or "size" in dict(card.evidence)
    assert (
        not {how for fact, how in card.evidence if how == "unverified"} or dict(card.evidence)["fields"] == "unverified"
    )
    assert not card.mapping or "fields" in dict(card.evidence)
    assert card.gate == "unknown" or "gate" in dict(card.evidence)
    text = (ROOT / "catalog" / "cards" / f"{name}.yaml").read_text("utf-8")
    for fact, how in card.evidence:
        key = "mapping" if fact == "fields" else fact
        line = next(line for line in text.splitlines() if line.startswith(f"{key}:"))
        assert ("# not verified" in line) == (how == "unverified")


def _listed(config: str, configs: tuple[str, ...]) -> bool:
    return any(config == one or (one.endswith("*") and config.startswith(one[:-1])) for one in configs)


def test_a_name_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UnknownDatasetError, match="Did you mean 'fineweb-edu'"):
        card_for("fineweb-edo")
    with pytest.raises(UnknownDatasetError, match="Did you mean 'gsm8k'"):
        load_card("gsm8")
    with pytest.raises(UnknownDatasetError):
        card_for("../gsm8k")


def test_importing_the_module_reads_no_card() -> None:
    code = "import choline_data.catalog.cards as c; print(c.packaged_cards.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "0"


def test_the_documented_format_is_the_format() -> None:
    text = (ROOT / "docs" / "cards.md").read_text("utf-8")
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert documented == [field.name for field in fields(Card)]
    for word in (*KINDS, *GATES, *EVIDENCE, *FACTS):
        assert f"`{word}`" in text
    for block in text.split("```yaml\n")[1:]:
        assert parse_card(block.split("```")[0]).license_class
