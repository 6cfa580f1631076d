"""Lists with several values for each picture, with numbers for the pictures, and lists that divide them, as they are published."""

from __future__ import annotations

import json
from pathlib import Path

from tests.adapters.media_trees import added, labels, picture, put, roles

from choline_data.catalog.add import prepare
from choline_data.places.home import Home

BIRDS = ["001.Albatross", "002.Auklet"]


def cub() -> dict[str, str | bytes]:
    names = [f"{bird}/{bird[4:]}_{n:04}.jpg" for bird in BIRDS for n in range(4)]
    files: dict[str, str | bytes] = {f"images/{name}": picture(at + 1) for at, name in enumerate(names)}
    files["images.txt"] = "".join(f"{at} {name}\n" for at, name in enumerate(names, 1))
    files["image_class_labels.txt"] = "".join(f"{at} {1 + (at > 4)}\n" for at in range(1, 9))
    files["train_test_split.txt"] = "".join(f"{at} {at % 2}\n" for at in range(1, 9))
    files["bounding_boxes.txt"] = "".join(f"{at} {at}.0 27.0 325.0 304.0\n" for at in range(1, 9))
    files["classes.txt"] = "".join(f"{at} {bird}\n" for at, bird in enumerate(BIRDS, 1))
    return files


def splits(place: Path) -> dict[str, str]:
    plan = prepare(Home("/nowhere"), str(place)).plan
    found = {f.name: s.split for part in plan.parts for s in part.shards for f in s.files}
    return {name: split for name, split in found.items() if name.endswith(".jpg")}


def test_lists_with_numbers_for_pictures_state_classes_splits_and_boxes(tmp_path: Path) -> None:
    place = put(tmp_path / "data", cub())
    rows = added(place, tmp_path / "home")
    assert sorted(labels(rows)) == [BIRDS[0]] * 4 + [BIRDS[1]] * 4
    by_name = splits(place)
    assert [by_name[name] for name in sorted(by_name)] == ["train", "test"] * 4
    boxes = {row["media"][0]["uri"]: json.loads(row["extra"])["bounding_boxes_1"] for row in rows}
    assert [boxes[name] for name in sorted(boxes)] == [float(n) for n in range(1, 9)]
    assert set(roles(place).values()) == {"joined"}


def celeba(attributes: str) -> dict[str, str | bytes]:
    names = [f"{n:06}.jpg" for n in range(1, 7)]
    files: dict[str, str | bytes] = {f"img_align_celeba/{name}": picture(at + 1) for at, name in enumerate(names)}
    values = "".join(f"{name} -1  1 {'-1' if at % 2 else ' 1'}\n" for at, name in enumerate(names))
    files["list_attr_celeba.txt"] = f"6\n{attributes}\n{values}"
    files["list_eval_partition.txt"] = "".join(f"{name} {max(0, at - 3)}\n" for at, name in enumerate(names))
    return files


def test_attributes_have_the_names_above_them_and_a_partition_divides(tmp_path: Path) -> None:
    place = put(tmp_path / "data", celeba("Bald Eyeglasses Smiling"))
    extra = {row["media"][0]["uri"][-10:]: json.loads(row["extra"]) for row in added(place, tmp_path / "home")}
    assert extra["000001.jpg"] == {"Bald": -1, "Eyeglasses": 1, "Smiling": 1, "folder": None}
    assert extra["000006.jpg"] == {"Bald": -1, "Eyeglasses": 1, "Smiling": -1, "folder": None}
    by_name = splits(place)
    assert [by_name[name] for name in sorted(by_name)] == ["train"] * 4 + ["validation", "test"]


def test_lists_of_pets_state_splits_and_numbers_and_the_names_state_the_breed(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    lines = {"trainval": "", "test": ""}
    for at, breed in enumerate(("Abyssinian", "american_bulldog"), 1):
        for n in range(1, 4):
            files[f"images/{breed}_{n}.jpg"] = picture(10 * at + n)
            lines["test" if n == 3 else "trainval"] += f"{breed}_{n} {at} {at} 1\n"
    head = "#Image CLASS-ID SPECIES BREED ID\n"
    files |= {f"annotations/{name}.txt": text for name, text in lines.items()}
    files["annotations/list.txt"] = head + lines["trainval"] + lines["test"]
    place = put(tmp_path / "data", files)
    rows = added(place, tmp_path / "home")
    assert sorted(set(labels(rows))) == ["Abyssinian", "american_bulldog"]
    assert {row["label"][0]["name"]: json.loads(row["extra"])["list_1"] for row in rows} == {
        "Abyssinian": 1,
        "american_bulldog": 2,
    }
    assert sorted(splits(place).values()) == ["test"] * 2 + ["train"] * 4


def test_boxes_in_a_list_leave_the_classes_to_the_folders(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{k}/{k}{n}.jpg": picture(n + 1) for k in ("cat", "dog") for n in range(3)}
    files["boxes.txt"] = "".join(f"{k}/{k}{n}.jpg 1 2 3 4\n" for k in ("cat", "dog") for n in range(3))
    assert labels(added(put(tmp_path / "data", files), tmp_path / "home")) == ["cat"] * 3 + ["dog"] * 3


def test_captions_of_one_length_stay_captions(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"p/{n}a.jpg": picture(n + 1) for n in range(3)}
    files["captions.txt"] = "".join(f"{n}a.jpg two dogs run\n" for n in range(3))
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [row["text"] for row in rows] == ["two dogs run"] * 3


def test_a_few_classes_in_a_list_beside_other_files_are_no_question(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"data.csv": "text,label\n" + "".join(f"Row {n} of it,{n % 2}\n" for n in range(9))}
    files["labels.txt"] = "0 negative\n1 positive\n"
    place = put(tmp_path / "data", files)
    assert len(added(place, tmp_path / "home", as_kind="classification")) == 9
    assert roles(place) == {"labels.txt": "described"}
