"""What `add` asks instead of guessing, and the options that answer."""

from __future__ import annotations

import json
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import IngestPlan, Wishes
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


def put(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def table(*rows: tuple[object, ...], header: str = "name,score") -> str:
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def plan(place: Path, **wishes: Any) -> IngestPlan:
    return prepare(Home("/nowhere"), str(place), wishes=Wishes(**wishes)).plan


def asked(place: Path, **wishes: Any) -> ChoiceNeededError:
    with pytest.raises(ChoiceNeededError) as error:
        plan(place, **wishes)
    assert error.value.exit_code == 3
    return error.value


def answers(error: ChoiceNeededError) -> list[dict[str, Any]]:
    """The options of each answer that the remedy offers, as wishes."""
    found = []
    for answer in error.remedy.removeprefix("Choose: ").split(" | "):
        words = shlex.split(answer.rpartition(" (")[0].replace(" …", ""))
        options: dict[str, Any] = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            key = option.removeprefix("--").replace("-", "_")
            options[key] = (*options.get(key, ()), value) if key in ("include", "exclude", "join") else value
        found.append(options)
    return found


def used(found: IngestPlan) -> set[str]:
    return {file.name for file in found.account if file.role == "used"}


TRAIN = table(("ann", 1), ("bob", 2), ("cid", 3), ("dee", 4))
TEST = table(("eve", 5), ("fay", 6), ("gus", 7), ("hal", 8))


def test_files_of_two_schemas_are_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{"people.csv": TRAIN, "rivers.csv": table(("Elbe", 1094, "DE"), header="river,km,country")})
    error = asked(tmp_path)
    assert "people.csv and rivers.csv have different columns: (name, score) and (country, km, river)" in error.message
    each, one, both = answers(error)
    assert {s.config for part in plan(tmp_path, **each).parts for s in part.shards} == {"people", "rivers"}
    assert used(plan(tmp_path, **one)) == {"people.csv"}
    assert used(plan(tmp_path, **both)) == {"people.csv", "rivers.csv"}


def test_tables_of_two_schemas_in_a_database_are_asked_about(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "places.db")) as base:
        base.executescript(
            "create table rivers (river, km); insert into rivers values ('Elbe', 1094), ('Oder', 840);"
            "create table people (name, born); insert into people values ('Ann', 1931), ('Bob', 1944);"
        )
    error = asked(tmp_path)
    assert "places.db holds the tables people (born, name) and rivers (km, river)" in error.message
    each, one, every = answers(error)
    tables = [
        {(s.config, s.member) for part in plan(tmp_path, **answer).parts for s in part.shards}
        for answer in (each, one, every)
    ]
    assert tables == [
        {("people", "people"), ("rivers", "rivers")},
        {("people", "people")},
        {("", "people"), ("", "rivers")},
    ]


@pytest.mark.parametrize(
    ("tables", "asks"), [(("states", "counties"), True), (("log_1", "log_2"), False), (("train", "test"), False)]
)
def test_tables_of_equal_columns_are_one_dataset_if_their_names_are_a_series(
    tmp_path: Path, tables: tuple[str, str], asks: bool
) -> None:
    with closing(sqlite3.connect(tmp_path / "places.db")) as base:
        for number, name in enumerate(tables):
            base.executescript(
                f"create table {name} (name, km); insert into {name} values ('Elbe', {number}), ('Oder', 840);"
            )
    if asks:
        assert "holds the tables counties (km, name) and states (km, name)" in asked(tmp_path).message
    else:
        assert used(plan(tmp_path)) == {"places.db"}


def test_files_of_an_unread_format_that_outnumber_what_is_read_are_asked_about(tmp_path: Path) -> None:
    grib = b"GRIB".ljust(7, b"\x00") + b"\x02" + bytes(64)
    put(tmp_path, **{"notes.txt": "It was night, and the rain fell on the roofs of the town.\n" * 9, "a.grib": grib})
    assert used(plan(tmp_path)) == {"notes.txt"}
    put(tmp_path, **{"b.grib": grib})
    error = asked(tmp_path)
    assert "2 files are read by no adapter: GRIB (2). Only 1 are read: notes.txt" in error.message
    assert [used(plan(tmp_path, **answer)) for answer in answers(error)] == [{"notes.txt"}]


def test_files_that_share_most_columns_are_one_dataset(tmp_path: Path) -> None:
    put(
        tmp_path, **{"a.jsonl": lines({"text": "one", "n": 1}), "b.jsonl": lines({"text": "two", "n": 2, "topic": "x"})}
    )
    assert used(plan(tmp_path, as_kind="text")) == {"a.jsonl", "b.jsonl"}


def test_two_files_of_the_same_name_are_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{"one.json": '{"title": "One", "text": "It was night."}', "one.txt": "It was night."})
    error = asked(tmp_path, as_kind="text")
    assert "one.json and one.txt have the same name" in error.message
    assert [used(plan(tmp_path, as_kind="text", **answer)) for answer in answers(error)] == [
        {"one.json"},
        {"one.txt"},
        {"one.json", "one.txt"},
    ]


def test_a_file_of_everything_beside_its_parts_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{"all.csv": TRAIN + TEST.partition("\n")[2], "train.csv": TRAIN, "test.csv": TEST})
    error = asked(tmp_path)
    assert "all.csv is named as if it held the rows of" in error.message
    assert used(plan(tmp_path, **answers(error)[0])) == {"train.csv", "test.csv"}


def test_a_file_that_repeats_rows_is_asked_about_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path, **{"first.csv": TRAIN, "second.csv": TRAIN + TEST.partition("\n")[2]})
    error = asked(tmp_path)
    assert "second.csv repeats rows of first.csv" in error.message
    assert used(plan(tmp_path, **answers(error)[0])) == {"first.csv"}


def test_numbered_shards_may_repeat_rows(tmp_path: Path) -> None:
    put(tmp_path, **{"data-00000.csv": TRAIN, "data-00001.csv": TRAIN})
    assert used(plan(tmp_path)) == {"data-00000.csv", "data-00001.csv"}


def test_media_that_no_sample_names_are_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{"a.jsonl": lines({"text": "one"}), "b.jsonl": lines({"text": "two"}), "pictures/x.png": PNG})
    error = asked(tmp_path, as_kind="text")
    assert "1 media files belong to no row: pictures/x.png" in error.message
    assert used(plan(tmp_path, as_kind="text", **answers(error)[0])) == {"a.jsonl", "b.jsonl"}


def test_a_table_beside_media_that_it_does_not_name_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{f"{n}.png": PNG for n in "abcd"}, **{"scores.csv": TRAIN})
    error = asked(tmp_path)
    assert "scores.csv may describe the image files beside it" in error.message
    assert used(plan(tmp_path, **answers(error)[1])) == {"a.png", "b.png", "c.png", "d.png"}
    assert used(plan(tmp_path, **answers(error)[2])) == {"scores.csv"}


def test_an_annotation_file_that_no_adapter_reads_is_asked_about_beside_media(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{f"{n}.png": PNG for n in "abcd"},
        **{"shapes.xml": "<shapes><a/><b/></shapes>", "notes.pkl": b"\x80\x04K\x01."},
    )
    error = asked(tmp_path)
    assert "notes.pkl, shapes.xml may describe the image files beside it" in error.message
    assert "--exclude '*.pkl' --exclude '*.xml' (only the media)" in error.remedy
    assert used(plan(tmp_path, exclude=("*.pkl", "*.xml"))) == {"a.png", "b.png", "c.png", "d.png"}


def test_a_file_of_a_layout_without_the_layout_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path, **{"a.jsonl": lines({"text": "one"}), "instances_val.json": '{"images": "gone"}'})
    error = asked(tmp_path, as_kind="text")
    assert "instances_val.json is named like a COCO annotation file" in error.message
    assert used(plan(tmp_path, as_kind="text", **answers(error)[1])) == {"a.jsonl"}


def test_a_short_note_beside_rows_describes_them(tmp_path: Path) -> None:
    put(tmp_path, **{"a.jsonl": lines({"text": "one"}), "notes.txt": "Collected in May."})
    (note,) = [file for file in plan(tmp_path, as_kind="text").account if file.role != "used"]
    assert (note.name, note.role, note.reason) == ("notes.txt", "described", "a note beside the data")


def test_a_repair_does_not_ask_again(tmp_path: Path) -> None:
    from choline_data.catalog.repair import repair
    from choline_data.store.manifest import read_manifest

    home = Home(tmp_path / "home")
    place = put(
        tmp_path / "data", **{"people.csv": TRAIN, "rivers.csv": table(("Elbe", 1094, "DE"), header="river,km,country")}
    )
    entry = ingest(home, prepare(home, str(place), wishes=Wishes(ask=False))).entry
    digest = read_manifest(home, entry.revision)["sha256"][0].as_py().hex()
    Path(home.path(f"data/{digest[:2]}/{digest}.arrow")).unlink()
    done = repair(home)
    assert [str(error) for error in done.failed] == []
    assert not done.left
