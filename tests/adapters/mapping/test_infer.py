"""The meaning of columns is inferred without options for the layouts of well-known datasets."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from choline_data.adapters.base import Shard, chunk_of
from choline_data.adapters.mapping import forms, infer, unsure
from choline_data.errors import InvalidOptionError, MissingFieldError, UnknownFieldError


def _golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _golden()
LAYOUTS = golden.layouts()


@pytest.mark.parametrize(("name", "kind", "columns"), LAYOUTS, ids=[name for name, _, _ in LAYOUTS])
def test_a_known_layout_gets_its_kind_and_every_row_becomes_a_sample(
    name: str, kind: str, columns: list[tuple[str, str]]
) -> None:
    batch = golden.batch_of(columns)
    best = infer([batch])[0]
    assert best.mapping.kind == kind, best
    made = forms.apply(best.mapping, chunk_of(batch, 0), Shard(name, name))
    made.batch.validate(full=True)
    assert made.batch.num_rows == batch.num_rows
    assert tuple(made.batch.schema.names) == forms.columns(best.mapping)


def test_few_layouts_need_a_choice() -> None:
    asked = [name for name, _, columns in LAYOUTS if unsure(infer([golden.batch_of(columns)]))]
    assert len(LAYOUTS) >= 120
    assert len(asked) <= len(LAYOUTS) * 0.05, asked


def test_text_that_is_links_is_no_document() -> None:
    batch = pa.RecordBatch.from_pydict({"content": [f"https://example.org/{i}" for i in range(9)], "n": range(9)})
    assert infer([batch])[0].mapping.kind == "tabular"


def test_token_ids_ask_rather_than_guess() -> None:
    assert unsure(infer([golden.batch_of([("input_ids", "ids"), ("attention_mask", "tags")])]))


def test_side_columns_are_taken_where_they_hold_what_they_say() -> None:
    columns = [("text", "doc"), ("url", "url"), ("language", "en"), ("license", "lic"), ("date", "date")]
    fields = dict(infer([golden.batch_of(columns)])[0].mapping.fields)
    assert fields == {
        "text": "text",
        "url": "url",
        "language": "language",
        "license": "license",
        "time": "date",
    }


def test_an_override_holds_and_the_rest_is_inferred() -> None:
    batch = golden.batch_of([("body", "doc"), ("text", "doc"), ("url", "url")])
    best = infer([batch], overrides={"text": "body"})[0]
    assert dict(best.mapping.fields)["text"] == "body"
    assert ("url", "url") in best.mapping.fields


def test_an_override_can_choose_the_form() -> None:
    batch = golden.batch_of([("a", "ask"), ("b", "say")])
    best = infer([batch], overrides={"prompt": "a", "completion": "b"})[0]
    assert (best.mapping.kind, best.mapping.form) == ("chat", "prompt_completion")


def test_a_missing_column_says_which_there_are() -> None:
    with pytest.raises(MissingFieldError, match="body, n"):
        infer([golden.batch_of([("body", "doc"), ("n", "int")])], overrides={"text": "txt"})


def test_an_unknown_role_names_the_nearest() -> None:
    with pytest.raises(UnknownFieldError, match="prompt"):
        infer([golden.batch_of([("body", "doc")])], overrides={"promt": "body"})


def test_as_kind_holds_and_an_unknown_one_is_refused() -> None:
    batch = golden.batch_of([("question", "ask"), ("answer", "say")])
    assert infer([batch], as_kind="tabular")[0].mapping.form == "table"
    assert infer([batch], as_kind="instruct")[0].mapping.kind == "chat"
    with pytest.raises(InvalidOptionError, match="preference"):
        infer([batch], as_kind="poem")
