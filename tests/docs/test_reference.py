"""The generated pages of docs/ are up to date, and they leave nothing out."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch", reason="the reference describes FirehoseDataset")

from choline_data import FirehoseDataset, errors, views

DOCS = Path(__file__).resolve().parents[2] / "docs"
REMEDY = "Run: python docs/generate_reference.py"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text() == GENERATOR.commands_page(), REMEDY


def test_the_page_of_the_python_api_is_up_to_date() -> None:
    assert (DOCS / "api.md").read_text() == GENERATOR.api_page(), REMEDY


def test_the_table_of_keywords_is_up_to_date() -> None:
    page = (DOCS / "training.md").read_text()
    assert GENERATOR.KEYWORDS[0] in page and GENERATOR.KEYWORDS[1] in page
    assert page == GENERATOR.with_keywords(page), REMEDY


def test_each_keyword_is_in_one_group_of_the_table() -> None:
    listed = [name for group in GENERATOR.keyword_groups().values() for name in group]
    assert sorted(listed) == sorted(inspect.signature(FirehoseDataset).parameters)


def test_the_table_has_the_type_and_the_default_of_the_code() -> None:
    rows = GENERATOR.keyword_table().splitlines()
    assert [row for row in rows if row.startswith("| `max_samples` | `int or None` | `None` | ")]
    assert [row for row in rows if row.startswith("| `last_batch` | `str` | `'short'` | ")]


def test_the_reference_has_each_view_and_each_error() -> None:
    assert list(GENERATOR.VIEWS) == list(views.VIEWS)
    page = GENERATOR.api_page()
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(classes) > 30
    assert all(f"`{kind.__name__}` | `{kind.reason}`" in page for kind in classes)
