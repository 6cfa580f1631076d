"""What the names of media say counts, and files beside media are neither repeated nor over-asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.media_trees import added, labels, picture, put, roles, wav

from choline_data.catalog.add import prepare
from choline_data.places.home import Home


def splits(place: Path) -> dict[str, str]:
    plan = prepare(Home("/nowhere"), str(place)).plan
    return {f.name: s.split for part in plan.parts for s in part.shards for f in s.files}


def test_the_label_of_market_1501_is_the_person_and_queries_are_a_split(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{folder}/{person}_c{camera}s1_00{camera}451_03.jpg": picture(n + camera)
        for n, (folder, person) in enumerate(
            [
                ("bounding_box_train", "0002"),
                ("bounding_box_test", "-1"),
                ("bounding_box_test", "0003"),
                ("query", "0003"),
            ]
        )
        for camera in (1, 2)
    }
    place = put(tmp_path / "data", files)
    assert sorted(set(labels(added(place, tmp_path / "home")))) == ["-1", "0002", "0003"]
    assert {name.partition("/")[0]: split for name, split in splits(place).items()} == {
        "bounding_box_train": "train",
        "bounding_box_test": "test",
        "query": "query",
    }


@pytest.mark.parametrize(
    ("names", "label", "extra"),
    [
        (["03-01-03-01-01-01-01", "03-01-05-02-02-01-02"], ["happy", "angry"], {"speaker": "01"}),
        (["1001_DFA_ANG_XX", "1002_IEO_SAD_HI"], ["ANG", "SAD"], {"speaker": "1001", "sentence_code": "DFA"}),
        (["03a01Fa", "08b02Wb"], ["happiness", "anger"], {"speaker": "03"}),
        (["OAF_back_angry", "YAF_dog_sad"], ["angry", "sad"], {"word": "back"}),
    ],
)
def test_the_emotion_in_the_name_of_a_clip_is_its_label(
    tmp_path: Path, names: list[str], label: list[str], extra: dict[str, str]
) -> None:
    files: dict[str, str | bytes] = {f"clips/a{n}/{name}.wav": wav(n) for n, name in enumerate(names)}
    if not names[0].startswith(("03-", "OAF")):
        files = {f"clips/{name}.wav": wav(n) for n, name in enumerate(names)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert labels(rows) == label
    assert extra.items() <= json.loads(rows[0]["extra"]).items()


def test_the_names_of_utkface_have_their_fields(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{age}_{gender}_2_20170109142408{age:03}.jpg.chip.jpg": picture(age) for age, gender in ((26, 0), (55, 1))
    }
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [json.loads(row["extra"]) for row in rows] == [
        {"age": "26", "gender": "0", "race": "2"},
        {"age": "55", "gender": "1", "race": "2"},
    ]


def test_a_word_before_a_number_is_the_class_of_a_picture(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"train/{k}.{n}.jpg": picture(n + 1) for k in ("cat", "dog") for n in range(3)}
    files |= {f"test1/{n}.jpg": picture(n + 7) for n in range(2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert sorted(row["label"][0]["name"] if row["label"] else "" for row in rows) == [
        "",
        "",
        *["cat"] * 3,
        *["dog"] * 3,
    ]


@pytest.mark.parametrize("words", [("IMG", "DSC"), ("left", "right"), ("cat", "")])
def test_a_word_of_cameras_and_views_is_no_class(tmp_path: Path, words: tuple[str, str]) -> None:
    files: dict[str, str | bytes] = {f"{word}_{n}.jpg": picture(n + 1) for word in words for n in range(3)}
    assert not any(row.get("label") for row in added(put(tmp_path / "data", files), tmp_path / "home"))


def test_a_table_with_fewer_columns_about_the_same_media_repeats_no_rows(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"Images/{n:05}.png": picture(n + 1) for n in range(3)}
    files["GT-test.csv"] = "Filename;Width;Height;ClassId\n" + "".join(f"{n:05}.png;5;6;{n}\n" for n in range(3))
    files["Images/GT-test.nolabel.csv"] = "Filename;Width;Height\n" + "".join(f"{n:05}.png;5;6\n" for n in range(3))
    place = put(tmp_path / "data", files)
    assert labels(added(place, tmp_path / "home")) == ["0", "1", "2"]
    assert roles(place) == {"GT-test.csv": "joined", "Images/GT-test.nolabel.csv": "left out"}


def test_a_picture_beside_clips_that_a_table_names_is_no_question(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"audio/1-{n}-A-0.wav": wav(n) for n in range(5)}
    files["meta/esc50.csv"] = "filename,fold,category\n" + "".join(f"1-{n}-A-0.wav,1,dog\n" for n in range(5))
    place = put(tmp_path / "data", {**files, "logo.png": picture(9)})
    assert labels(added(place, tmp_path / "home")) == ["dog"] * 5
    assert roles(place)["logo.png"] == "described"


def test_a_test_without_answers_is_no_other_table(tmp_path: Path) -> None:
    def rows(first: int, **more: Any) -> str:
        return json.dumps([{"id": str(n), **more} for n in range(first, first + 3)])

    files: dict[str, str | bytes] = {"test.json": rows(0)}
    files["train.json"] = rows(3, label="holding", template="Holding it", placeholders=["cup"])
    assert len(added(put(tmp_path / "data", files), tmp_path / "home", as_kind="tabular")) == 6


def test_captions_in_a_column_of_comments_are_texts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"flickr30k_images/{n}.jpg": picture(n + 1) for n in range(2)}
    files["results.csv"] = "image_name| comment_number| comment\n" + "".join(
        f"{n}.jpg| {k}| Two young guys number {n} with hair {k} .\n" for n in range(2) for k in range(5)
    )
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [row["text"] for row in rows][:2] == [f"Two young guys number 0 with hair {k} ." for k in (0, 1)]
