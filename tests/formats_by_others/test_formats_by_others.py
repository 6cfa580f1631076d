"""Files that other libraries write are read right, asked about, or refused by name. They are never read wrong."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.formats_by_others.written import ASKED, ENDS, REFUSED, RIGHT, Row, Writer, all_writers

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.export import export
from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError, CholineDataError
from choline_data.places.home import Home
from choline_data.store import Catalog

WRITERS = all_writers()
COLUMNS = ("text", "label", "labels", "language", "url", "time", "turns", "media")


def test_there_are_sixty_writers_with_their_ends() -> None:
    assert len(WRITERS) >= 60
    assert {each.ends for each in WRITERS.values()} <= set(ENDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # libraries that close no file
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("plain", [False, True], ids=["as stated", "plain"])
def test_what_another_library_wrote_is_never_read_wrong(name: str, tmp_path: Path, plain: bool) -> None:
    """With `plain`, no kind is stated, as in the plain command. Then a question is right too."""
    each = WRITERS[name]
    for module in (each.library, *each.needs):
        pytest.importorskip(module)
    folder = tmp_path / "source"
    folder.mkdir()
    each.write(folder)
    end, message, found = added(folder, tmp_path, "" if plain else each.kind)
    if end == RIGHT:
        assert not wrong(each, found)
    if end == REFUSED and each.ends == REFUSED:
        assert each.says.lower() in message.lower(), message
    allowed = {RIGHT: {RIGHT}, ASKED: {ASKED, RIGHT}, REFUSED: {REFUSED, ASKED, RIGHT}}[each.ends]
    assert end in (allowed | {ASKED} if plain else allowed), message
    if each.ends == REFUSED and not each.rows:
        assert end != RIGHT, found


def added(folder: Path, place: Path, kind: str) -> tuple[str, str, list[Row]]:
    """Adds the folder. Returns how it ended, the message, and the samples."""
    home = Home(place / "home")
    try:
        ingest(home, prepare(home, str(folder), name="x", wishes=Wishes(as_kind=kind)))
    except ChoiceNeededError as error:
        return ASKED, str(error), []
    except CholineDataError as error:
        return REFUSED, str(error), []
    export(home, Catalog(home).entries()["x"], "parquet", str(place / "out"))
    files = sorted((place / "out").glob("**/*.parquet"))
    return RIGHT, "", [row for file in files for row in pq.read_table(file).to_pylist()]


def wrong(each: Writer, found: list[Row]) -> str:
    """Says how the samples differ from the rows that were written; "" if they do not differ."""
    if len(found) != len(each.rows):
        return f"{len(found)} samples of {len(each.rows)} rows"
    samples = [{**{key: row.get(key) for key in COLUMNS}, **json.loads(row["extra"] or "{}")} for row in found]
    left = list(samples)
    for row in each.rows:
        at = next((n for n, sample in enumerate(left) if _holds(sample, row, each)), None)
        if at is None:
            return f"no sample is {row}; the first sample is {left[0]}"
        left.pop(at)
    return ""


def _holds(sample: Row, row: Row, each: Writer) -> bool:
    """Whether the sample has the values of the row, and no others unless the writer says so."""
    for key, value in row.items():
        if key in sample and sample[key] is not None and key not in COLUMNS:
            if not _agree(value, sample[key], each.cells):
                return False
        elif value is not None and value != "" and not all(_is_in(leaf, sample, each.cells) for leaf in _leaves(value)):
            return False
    return each.part or set(sample) - set(COLUMNS) <= set(row)


def _agree(value: Any, back: Any, cells: bool) -> bool:
    """Whether a value came back. A cell of text has no type; every other number keeps its kind."""
    if isinstance(value, dict) and isinstance(back, dict):
        return all(_agree(item, back.get(key), cells) for key, item in value.items())
    if isinstance(value, list) and isinstance(back, list):
        return len(value) == len(back) and all(_agree(a, b, cells) for a, b in zip(value, back, strict=True))
    if value is None or back is None:
        return value is back or (cells and value in (None, "") and back in (None, ""))
    if cells and not isinstance(back, str):
        return float(value) == float(back)
    if cells:
        return str(value).lower() == back.lower() or str(value) == back
    if isinstance(value, bytes):
        return bool(back == {"$binary": base64.b64encode(value).decode()})
    return type(value) is type(back) and bool(value == back)


def _is_in(leaf: Any, sample: Row, cells: bool) -> bool:
    held = list(_leaves(sample))
    if isinstance(leaf, str):
        return any(isinstance(item, str) and leaf.strip() in item.replace("\r\n", "\n") for item in held)
    return leaf in held or any(_agree(leaf, item, cells) or str(leaf) == item for item in held)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value


@pytest.mark.parametrize("fault", ["a lost row", "a cut text", "a float in place of an integer", "a column more"])
def test_the_comparison_sees_a_fault(fault: str) -> None:
    each = WRITERS["JSON of json"]
    found = [{"extra": json.dumps(row)} for row in each.rows]
    assert not wrong(each, found)
    first = dict(each.rows[0])
    changed = {
        "a lost row": None,
        "a cut text": {**first, "name": first["name"][:-1]},
        "a float in place of an integer": {**first, "id": float(first["id"])},
        "a column more": {**first, "more": 1},
    }[fault]
    assert wrong(each, [*([{"extra": json.dumps(changed)}] if changed else []), *found[1:]])


def test_a_missing_library_is_the_only_reason_to_skip() -> None:
    libraries = {each.library for each in WRITERS.values()}
    assert sum(importlib.util.find_spec(name.partition(".")[0]) is not None for name in libraries) >= 12
