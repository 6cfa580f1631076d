"""The warnings of `add`: computed from sampled rows, with numbers, and absent if there is no problem."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from choline_data.catalog.add import prepare
from choline_data.cli import main
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

GOOD = [f"A sentence with the number {number}, and é, “quotes” and 中文 in it." for number in range(40)]


def warned(tmp_path: Path, rows: list[dict[str, object]]) -> dict[str, str]:
    source = tmp_path / "web.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {w.reason: w.message for w in prepare(Home(tmp_path / "home"), str(source)).plan.warned}


def test_a_source_as_it_should_be_has_no_warning(tmp_path):
    assert warned(tmp_path, [{"text": text} for text in GOOD]) == {}


def test_a_line_above_the_rows_that_is_skipped_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "iris.csv"
    source.write_text("3,2,setosa,virginica\n5.1,3.5,1.4,0\n4.9,3.0,1.4,0\n6.2,3.4,5.4,1\n")
    (warning,) = prepare(Home(tmp_path / "home"), str(source)).plan.warned
    assert warning.reason == "SKIPPED_LINES"
    assert "1 lines above the rows are no rows, and are skipped: '3,2,setosa,virginica'" in warning.message
    source.write_text("# a comment\na,b\n1,2\n3,4\n")
    assert prepare(Home(tmp_path / "home"), str(source)).plan.warned == ()


def test_many_empty_texts_are_told_with_their_number_and_the_first(tmp_path):
    told = warned(tmp_path, [{"text": text if n % 4 else " " * n} for n, text in enumerate(GOOD)])
    assert told == {"EMPTY_TEXT": "10 of 40 sampled rows have an empty text; the first: web.jsonl, row 0."}


def test_utf8_that_was_read_as_another_encoding_is_told(tmp_path):
    garbled = [text.encode().decode("cp1252", "replace") if n % 8 == 3 else text for n, text in enumerate(GOOD)]
    told = warned(tmp_path, [{"text": text} for text in garbled])
    assert told.keys() == {"GARBLED_TEXT"}
    assert told["GARBLED_TEXT"].startswith("5 of 40 sampled rows")
    assert told["GARBLED_TEXT"].endswith("web.jsonl, row 3.")


def test_markup_is_told_and_code_with_angle_brackets_is_not(tmp_path):
    assert warned(tmp_path, [{"text": f"<div class='x'><p>{text}</p></div>"} for text in GOOD]).keys() == {"MARKUP"}
    assert warned(tmp_path, [{"text": f"if a < b and b > {n}: vector<int> x;"} for n in range(40)]) == {}


def test_repeated_rows_are_told(tmp_path):
    told = warned(tmp_path, [{"text": GOOD[n % 30]} for n in range(40)])
    assert told == {"REPEATED_ROWS": "10 of 40 sampled rows repeat another one."}


def test_a_giant_row_is_told_with_its_place(tmp_path):
    told = warned(tmp_path, [{"text": text if n != 5 else text * 40_000} for n, text in enumerate(GOOD)])
    assert told.keys() == {"GIANT_ROW"}
    assert told["GIANT_ROW"].endswith("web.jsonl, row 5.")


def test_turns_without_content_are_no_empty_conversations(tmp_path):
    turns = [{"role": "user", "content": "Look it up."}, {"role": "assistant", "content": ""}]
    told = warned(tmp_path, [{"messages": [*turns, {"role": "assistant", "content": text}]} for text in GOOD])
    assert told == {}
    assert warned(tmp_path, [{"messages": [{"role": "user", "content": ""}], "n": n} for n in range(40)])["EMPTY_TEXT"]


def test_the_command_shows_them_and_has_them_in_json(tmp_path, monkeypatch, capsys):
    warned(tmp_path, [{"text": GOOD[n % 30]} for n in range(40)])
    command = ["choline-data", "add", str(tmp_path / "web.jsonl"), "--dry-run", "--home", str(tmp_path / "home")]
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", [*command, *more])
        with contextlib.suppress(SystemExit):
            main()
        shown = capsys.readouterr()
        if more:
            (warning,) = json.loads(shown.out)["warnings"]
            assert warning["reason"] == "REPEATED_ROWS"
            assert "--dedup" in warning["remedy"]
        else:
            assert "warning: 10 of 40 sampled rows repeat another one." in shown.err


def test_rows_of_token_ids_ask_for_their_text(tmp_path):
    with pytest.raises(ChoiceNeededError, match=r"web\.jsonl: input_ids holds token ids, .* tokenizer") as caught:
        warned(tmp_path, [{"input_ids": [n, 5, 7], "attention_mask": [1, 1, 1]} for n in range(40)])
    assert "--as tabular" in caught.value.remedy
