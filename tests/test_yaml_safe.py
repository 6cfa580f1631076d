"""Parsing of untrusted YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from choline_data.errors import DataError, SourceFormatError, SourceTooLargeError
from choline_data.places.yaml_safe import front_matter, safe_load


def test_words_and_version_numbers_stay_what_was_written() -> None:
    got = safe_load("name: no\nversion: 1.10\nlang: NO\ndate: 2026-01-01\nport: 0x1f\nzip: 007\n", "card.yaml")
    assert got == {
        "name": "no",
        "version": "1.10",
        "lang": "NO",
        "date": "2026-01-01",
        "port": "0x1f",
        "zip": "007",
    }


def test_numbers_booleans_and_nulls_are_read() -> None:
    got = safe_load("a: 3\nb: 0.5\nc: true\nd: null\ne:\nf: 1e-3\ng: -2\n", "card.yaml")
    assert got == {"a": 3, "b": 0.5, "c": True, "d": None, "e": None, "f": 0.001, "g": -2}


def test_a_repeated_key_names_the_line() -> None:
    with pytest.raises(SourceFormatError, match=r"card\.yaml:2: contains the key 'name' twice"):
        safe_load("name: a\nname: b\n", "card.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.mkdir ['YAML_CANARY']",
        "a: !mine 3",
        "a: &x [*x]",
        "? [a]\n: b",
        "a: [",
        "[" * 5000,
    ],
)
def test_what_is_not_plain_data_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        safe_load(text, "card.yaml")
    assert str(caught.value).startswith("card.yaml")
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(SourceTooLargeError, match="aliases"):
        safe_load("\n".join(lines), "card.yaml")


def test_aliases_and_merges_of_ordinary_size_are_read() -> None:
    assert safe_load("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", "c")["b"] == {"x": 1, "y": 2}


def test_front_matter_ends_at_its_line_and_may_be_absent() -> None:
    assert front_matter("---\nlicense: mit\n---\n# T\n---\nno: x\n", "README.md") == {"license": "mit"}
    assert front_matter("# T\n", "README.md") == {}


@pytest.mark.parametrize("name", ["alias_bomb", "dup_keys", "python_tag"])
def test_the_hostile_files_are_refused(name: str, shared_data: Path) -> None:
    with pytest.raises(DataError):
        safe_load((shared_data / "hostile" / "config" / f"{name}.yaml").read_bytes(), name)
