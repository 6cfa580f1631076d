"""Media are joined with the right descriptions: by whole paths, within their split, and never with those of another medium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.media_trees import added, labels, picture, put, texts, wav

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import CholineDataError, SourceFormatError
from choline_data.places.home import Home


def coco(*names: str, first: int = 1, category: str = "cat", **note: Any) -> str:
    """A COCO file with one annotation for each image."""
    ids = range(first, first + len(names))
    return json.dumps(
        {
            "info": {"year": 2017},
            "images": [{"id": n, "file_name": name} for n, name in zip(ids, names, strict=True)],
            "annotations": [{"id": n, "image_id": n, "category_id": 7, "bbox": [0, 0, n, 1], **note} for n in ids],
            "categories": [{"id": 7, "name": category}],
        }
    )


def widths(rows: list[dict[str, Any]]) -> list[list[int]]:
    """The widths of each row's pictures, which say which pictures they are."""
    return [[medium["width"] for medium in row["media"]] for row in rows]


@pytest.mark.parametrize("where", ["beside", "above"])
def test_coco_images_of_the_same_base_name_do_not_mix(tmp_path: Path, where: str) -> None:
    files: dict[str, str | bytes] = {"one/0.png": picture(1), "two/0.png": picture(2)}
    if where == "beside":
        files |= {"one/a.coco.json": coco("0.png"), "two/a.coco.json": coco("0.png", category="dog")}
    else:
        files |= {"one.json": coco("one/0.png"), "two.json": coco("two/0.png", category="dog")}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert widths(rows) == [[1], [2]]
    assert labels(rows) == ["cat", "dog"]


def test_coco_never_takes_an_image_of_another_split(tmp_path: Path) -> None:
    files = {"train/_a.coco.json": coco("0.png", "1.png"), "train/1.png": picture(3), "valid/0.png": picture(2)}
    files["valid/_a.coco.json"] = coco("0.png")
    place, home = put(tmp_path / "data", files), Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(place), wishes=Wishes(max_rejects=0.9)))
    assert done.rows == 2
    assert [r.reason for r in done.rejects] == ["'0.png' is not there, or is there several times"]


def test_coco_files_about_the_same_images_are_one_row_for_each_image(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"train2017/{n}.png": picture(n + 1) for n in range(2)}
    files["annotations/instances_train2017.json"] = coco("0.png", "1.png")
    captions = [{"id": n, "image_id": n, "caption": f"Caption number {n}."} for n in (1, 2)]
    images = [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "1.png"}]
    files["annotations/captions_train2017.json"] = json.dumps({"images": images, "annotations": captions})
    files["annotations/panoptic_train2017.json"] = json.dumps(
        {
            "images": images,
            "annotations": [
                {"image_id": n + 1, "file_name": f"{n}.png", "segments_info": [{"id": 1, "category_id": 3}]}
                for n in range(2)
            ],
            "categories": [{"id": 3, "name": "sky"}],
        }
    )
    files |= {f"annotations/panoptic_train2017/{n}.png": picture(n + 11) for n in range(2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert widths(rows) == [[1, 11], [2, 12]]
    assert texts(rows) == {"0": "Caption number 1.", "1": "Caption number 2."}
    assert [[label["name"] for label in row["label"]] for row in rows] == [["cat", "sky"]] * 2
    notes = json.loads(rows[0]["extra"])["annotations"]
    assert [note["bbox"] for note in notes if note.get("bbox")] == [[0, 0, 1, 1]]


def test_coco_test_images_have_no_annotations(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"train/a.png": picture(1), "test/b.png": picture(2), "i_train.json": coco("a.png")}
    files["image_info_test.json"] = json.dumps({"images": [{"id": 9, "file_name": "b.png"}], "categories": []})
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert {row["media"][0]["width"]: bool(row["label"]) for row in rows} == {1: True, 2: False}


def test_a_table_whose_paths_name_one_file_twice_is_refused(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"one/{n}.png": picture(n + 1) for n in range(3)}
    files["t.csv"] = "image,label\n" + "".join(
        f"{folder}/{n}.png,{folder}\n" for folder in ("one", "two") for n in range(3)
    )
    with pytest.raises(SourceFormatError, match=r"names one/0\.png and two/0\.png, but only one/0\.png exists"):
        prepare(Home("/nowhere"), str(put(tmp_path / "data", files)))


def test_columns_that_fit_equally_well_are_no_error(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"audio/{n}.wav": wav(n) for n in range(3)}
    rows = "".join(
        json.dumps({"audio_filepath": f"audio/{n}.wav", "text": f"number {n} said", "speaker": n}) + "\n"
        for n in range(3)
    )
    assert texts(added(put(tmp_path / "data", {**files, "manifest.json": rows}), tmp_path / "home")) == {
        str(n): f"number {n} said" for n in range(3)
    }


def test_a_text_of_one_split_never_describes_a_picture_of_another(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"training/image_2/{n}.png": picture(n + 1) for n in range(3)}
    files |= {f"testing/image_2/{n}.png": picture(n + 5) for n in range(2)}
    files |= {f"training/texts/{n}.txt": f"A street with {n} cars." for n in range(3)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert {row["media"][0]["width"]: row["text"] for row in rows} == {
        1: "A street with 0 cars.",
        2: "A street with 1 cars.",
        3: "A street with 2 cars.",
        5: None,
        6: None,
    }


@pytest.mark.parametrize("box", ["car 1 2 3 4\n", "3,4,5\n", "1 2 3 4 5 6 7 plane\n"])
def test_rows_of_numbers_in_an_unknown_form_are_no_captions(tmp_path: Path, box: str) -> None:
    files: dict[str, str | bytes] = {f"train/pictures/{n}.png": picture(n + 1) for n in range(3)}
    files |= {f"train/boxes/{n}.txt": box for n in range(3)}
    with pytest.raises(CholineDataError):
        prepare(Home("/nowhere"), str(put(tmp_path / "data", files)))


def test_a_caption_that_begins_with_the_name_of_another_picture_is_no_list(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.png": picture(n + 1) for n in range(4)}
    files |= {f"{n}.txt": f"{(n + 1) % 4} dogs on a sofa" for n in range(4)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == {str(n): f"{(n + 1) % 4} dogs on a sofa" for n in range(4)}


def test_a_folder_that_names_a_split_and_more_is_a_label_without_the_split(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{split}{domain}/{domain}{n}.png": picture(n + 1)
        for split in ("train", "test")
        for domain in "AB"
        for n in range(2)
    }
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert sorted(labels(rows)) == ["A"] * 4 + ["B"] * 4


TEXT_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "say ""{n}"""
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "again"
    item [2]:
        class = "TextTier"
        name = "tones"
        xmin = 0
        xmax = 1
        points: size = 1
        points [1]:
            number = 0.25
            mark = "H*"
'''
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0"><HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="500"/></TIME_ORDER>
<TIER TIER_ID="speech" PARTICIPANT="ann" LINGUISTIC_TYPE_REF="t"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"
TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>say "{n}" again</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
</ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
SRT = '1\n00:00:00,000 --> 00:00:00,500\nsay "{n}"\n\n2\n00:00:00,500 --> 00:00:01,000\nagain\n'


@pytest.mark.parametrize(
    ("suffix", "content", "part"),
    [
        ("TextGrid", TEXT_GRID, {"start": 0.0, "end": 0.5, "text": 'say "0"'}),
        ("eaf", ELAN, {"start": 0.0, "end": 0.5, "text": 'say "0" again'}),
        ("srt", SRT, {"start": 0.0, "end": 0.5, "text": 'say "0"'}),
        ("en.vtt", "WEBVTT\n\n" + SRT.replace(",", "."), {"start": 0.0, "end": 0.5, "text": 'say "0"'}),
    ],
)
def test_texts_with_times_transcribe_the_clip_of_the_same_name(
    tmp_path: Path, suffix: str, content: str, part: dict[str, Any]
) -> None:
    files: dict[str, str | bytes] = {f"{n}.wav": wav(n) for n in range(3)}
    files |= {f"{n}.{suffix}": content.replace("{n}", str(n)) for n in range(3)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == {str(n): f'say "{n}" again' for n in range(3)}
    extra = json.loads(rows[0]["extra"])
    parts = extra["cues"] if "cues" in extra else extra["tiers"][0]["parts"]
    assert parts[0] == part


def test_the_labels_of_timit_keep_all_their_times(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.WAV": wav(n) for n in range(2)}
    files |= {f"{n}.TXT": f"0 46797 She had {n}.\n" for n in range(2)}
    files |= {f"{n}.PHN": "0 3050 h#\n3050 4559 sh\n" for n in range(2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == {"0": "She had 0.", "1": "She had 1."}
    assert json.loads(rows[0]["extra"])["phones"] == [
        {"first": 0, "last": 3050, "text": "h#"},
        {"first": 3050, "last": 4559, "text": "sh"},
    ]


def test_a_cut_text_grid_is_an_error_that_names_it(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.wav": wav(n) for n in range(3)}
    files |= {f"{n}.TextGrid": TEXT_GRID[: 400 - 100 * n] for n in range(3)}
    with pytest.raises(CholineDataError, match=r"\d\.TextGrid: the TextGrid ends too early"):
        added(put(tmp_path / "data", files), tmp_path / "home")


def test_a_text_transcribes_the_clips_of_all_microphones(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"wav48/p225/p225_{n:03}_mic{mic}.wav": wav(2 * n + mic) for n in range(2) for mic in (1, 2)
    }
    files |= {f"txt/p225/p225_{n:03}.txt": f"Sentence number {n}.\n" for n in range(2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == {f"p225_{n:03}_mic{mic}": f"Sentence number {n}." for n in range(2) for mic in (1, 2)}


def test_a_text_of_one_microphone_transcribes_no_other(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"a_{n}_mic{mic}.wav": wav(2 * n + mic) for n in range(2) for mic in (1, 2)}
    files |= {f"a_{n}_mic{mic}.txt": f"Sentence {n} at {mic}." for n in range(2) for mic in (1, 2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == {f"a_{n}_mic{mic}": f"Sentence {n} at {mic}." for n in range(2) for mic in (1, 2)}
