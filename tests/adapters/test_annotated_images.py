"""Images with objects, masks or a paired image: each layout as its documentation describes it, and its faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.media_trees import added, labels, picture, put

from choline_data.adapters.annotated_images import AnnotatedImages
from choline_data.adapters.base import SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

Files = dict[str, str | bytes]


def voc(name: str, category: str) -> str:
    return (
        f"<annotation><folder>VOC2012</folder><filename>{name}</filename><size><width>3</width></size>"
        f"<object><name>{category}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax></bndbox></object>"
        "</annotation>"
    )


def pictures(folder: str, count: int = 3, first: int = 1) -> Files:
    return {f"{folder}/{n}.png": picture(n + first) for n in range(count)}


def objects(rows: list[dict[str, Any]]) -> list[Any]:
    """The first object of each image."""
    return [(json.loads(row["extra"])["annotations"] or [None])[0] for row in rows]


BOX = "1 0.5 0.25 0.2 0.1\n"
YOLO_BOX = {"category": "dog", "category_id": 1, "x_center": 0.5, "y_center": 0.25, "width": 0.2, "height": 0.1}
CATEGORY = {"category": "cat"}
LABELME = json.dumps(
    {"shapes": [{"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}], "imagePath": "x"}
)
SUPERVISELY = json.dumps(
    {
        "size": {"height": 1, "width": 1},
        "objects": [{"classTitle": "cat", "points": {"exterior": [[1, 2]], "interior": []}}],
    }
)
KITTI = "Car 0.00 1 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01\n"
DOTA = "imagesource:GoogleEarth\ngsd:0.1\n1.0 2.0 3.0 2.0 3.0 4.0 1.0 4.0 plane 1\n"
CVAT = (
    "<annotations><version>1.1</version><meta><task><name>t</name></task></meta>"
    + "".join(
        f'<image id="{n}" name="{n}.png" width="3" height="1"><box label="cat" occluded="0" xtl="1.5" ytl="2" xbr="3" ybr="4"/>'
        "</image>"
        for n in range(3)
    )
    + "</annotations>"
)

LAYOUTS: dict[str, tuple[Files, dict[str, Any]]] = {
    "Pascal VOC": (
        {**pictures("V/JPEGImages"), **{f"V/Annotations/{n}.xml": voc(f"{n}.png", "cat") for n in range(3)}},
        {**CATEGORY, "bndbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 3.5, "ymax": 4.0}},
    ),
    "Stanford Dogs": (
        {**pictures("Images/n1-cat"), **{f"Annotation/n1-cat/{n}": voc(str(n), "cat") for n in range(3)}},
        {**CATEGORY, "bndbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 3.5, "ymax": 4.0}},
    ),
    "YOLO": (
        {
            **pictures("images/train"),
            **{f"labels/train/{n}.txt": BOX for n in range(3)},
            "data.yaml": "train: images/train\nnames:\n  0: cat\n  1: dog\n",
        },
        YOLO_BOX,
    ),
    "YOLO beside the images": (
        {**pictures("obj"), **{f"obj/{n}.txt": BOX for n in range(3)}, "obj/classes.txt": "cat\ndog\n"},
        YOLO_BOX,
    ),
    "YOLO polygons": (
        {
            **pictures("images"),
            **{f"labels/{n}.txt": "0 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4\n" for n in range(3)},
            "x.yaml": "names: [cat, dog]\n",
        },
        {"category": "cat", "category_id": 0, "polygon": [0.1, 0.2, 0.3, 0.2, 0.3, 0.4, 0.1, 0.4]},
    ),
    "YOLO poses": (
        {
            **pictures("images"),
            **{f"labels/{n}.txt": "0 0.5 0.5 0.2 0.2 0.1 0.2 2 0.3 0.4 1\n" for n in range(3)},
            "x.yaml": "kpt_shape: [2, 3]\nnames: [cat]\n",
        },
        {
            "category": "cat",
            "category_id": 0,
            "x_center": 0.5,
            "y_center": 0.5,
            "width": 0.2,
            "height": 0.2,
            "keypoints": [0.1, 0.2, 2.0, 0.3, 0.4, 1.0],
        },
    ),
    "LabelMe": (
        {**pictures("all"), **{f"all/{n}.json": LABELME for n in range(3)}},
        {**CATEGORY, "points": [[1, 2], [3, 4]], "shape_type": "rectangle"},
    ),
    "Supervisely": (
        {
            **pictures("p/ds1/img"),
            **{f"p/ds1/ann/{n}.png.json": SUPERVISELY for n in range(3)},
            "p/meta.json": '{"classes": [], "tags": []}',
        },
        {**CATEGORY, "points": {"exterior": [[1, 2]], "interior": []}},
    ),
    "KITTI": (
        {
            **pictures("training/image_2"),
            **{f"training/label_2/{n}.txt": KITTI for n in range(3)},
            **{f"training/calib/{n}.txt": "P0: 7.07 0 0\nP1: 1 2 3\n" for n in range(3)},
        },
        {"category": "Car", "left": 712.4, "top": 143.0, "right": 810.73, "bottom": 307.92},
    ),
    "VisDrone": (
        {**pictures("images"), **{f"annotations/{n}.txt": "684,8,273,116,0,4,0,1\n" for n in range(3)}},
        {"category_id": 4, "left": 684, "top": 8, "width": 273, "height": 116, "occlusion": 1},
    ),
    "DOTA": (
        {**pictures("images"), **{f"labelTxt/{n}.txt": DOTA for n in range(3)}},
        {"category": "plane", "polygon": [1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 1.0, 4.0], "difficult": True},
    ),
    "CVAT": (
        {**pictures("images"), "annotations.xml": CVAT},
        {**CATEGORY, "shape": "box", "xtl": 1.5, "ytl": 2.0, "xbr": 3.0, "ybr": 4.0},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_image_has_its_objects(tmp_path: Path, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [[m["width"] for m in row["media"]] for row in rows] == [[1], [2], [3]]
    assert all(found.items() >= expected.items() for found in objects(rows))
    if expected.get("category"):
        assert labels(rows) == [expected["category"]] * 3


def test_images_of_the_same_name_in_two_splits_keep_their_own_objects(tmp_path: Path) -> None:
    files: Files = {**pictures("train/images"), **pictures("valid/images", first=11)}
    files |= {f"train/labels/{n}.txt": "0 0.1 0.1 0.1 0.1\n" for n in range(3)}
    files |= {f"valid/labels/{n}.txt": "1 0.2 0.2 0.2 0.2\n" for n in range(1)}
    files["data.yaml"] = "names: [cat, dog]\n"
    place = put(tmp_path / "data", files)
    rows = added(place, tmp_path / "home")
    found = {row["media"][0]["width"]: [label["name"] for label in row["label"] or ()] for row in rows}
    assert found == {1: ["cat"], 2: ["cat"], 3: ["cat"], 11: ["dog"], 12: [], 13: []}
    plan = prepare(Home("/nowhere"), str(place)).plan
    assert {split for _, split in plan.splits} == {"train", "validation"}


def test_a_class_that_has_no_name_rejects_its_image(tmp_path: Path) -> None:
    files: Files = {
        **pictures("images", 4),
        **{f"labels/{n}.txt": BOX for n in range(3)},
        "labels/3.txt": "7 0.1 0.1 0.1 0.1\n",
    }
    files["data.yaml"] = "names: [cat, dog]\n"
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(put(tmp_path / "data", files)), wishes=Wishes(max_rejects=0.5)))
    assert [r.reason for r in done.rejects] == ["labels/3.txt: the class 7 is not among the 2 names of classes"]


def test_objects_without_names_of_classes_have_numbers_and_no_labels(tmp_path: Path) -> None:
    rows = added(
        put(tmp_path / "data", {**pictures("images"), **{f"labels/{n}.txt": BOX for n in range(3)}}), tmp_path / "home"
    )
    assert [found["category_id"] for found in objects(rows)] == [1, 1, 1]
    assert not any(row.get("label") for row in rows)


def test_image_sets_decide_the_splits(tmp_path: Path) -> None:
    files = dict(LAYOUTS["Pascal VOC"][0])
    files |= {
        "V/ImageSets/Main/train.txt": "0\n",
        "V/ImageSets/Main/val.txt": "1\n",
        "V/ImageSets/Main/trainval.txt": "0\n1\n",
    }
    files["V/ImageSets/Main/cat_train.txt"] = "0  1\n1 -1\n"
    plan = prepare(Home("/nowhere"), str(put(tmp_path / "data", files))).plan
    splits = {f.name: s.split for part in plan.parts for s in part.shards for f in s.files if f.name.endswith("png")}
    assert splits == {"V/JPEGImages/0.png": "train", "V/JPEGImages/1.png": "validation"}
    assert "V/JPEGImages/2.png" in dict(plan.passed_over)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("images/{n}.png", "masks/{n}.png"),
        ("train/car{n}.png", "train_masks/car{n}_mask.png"),
        ("ADE/images/training/{n}.png", "ADE/annotations/training/{n}.png"),
        ("leftImg8bit/train/aachen/a_{n}_leftImg8bit.png", "gtFine/train/aachen/a_{n}_gtFine_labelIds.png"),
        ("V/JPEGImages/{n}.png", "V/SegmentationClass/{n}.png"),
        ("train/A/{n}.png", "train/B/{n}.png"),
        ("DIV2K_train_LR_bicubic/X2/000{n}x2.png", "DIV2K_train_HR/000{n}.png"),
    ],
)
def test_masks_and_paired_images_follow_their_image(tmp_path: Path, first: str, second: str) -> None:
    files: Files = {first.format(n=n): picture(n + 1) for n in range(3)}
    files |= {second.format(n=n): picture(n + 41) for n in range(3)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [[m["width"] for m in row["media"]] for row in rows] == [[1, 41], [2, 42], [3, 43]]
    assert not any(row.get("label") for row in rows)


@pytest.mark.parametrize(
    "folders", [("A", "B", "C"), ("mask", "nomask"), ("ants", "bees"), ("with_mask", "without_mask")]
)
def test_class_folders_with_the_same_names_are_no_pairs(tmp_path: Path, folders: tuple[str, ...]) -> None:
    files: Files = {f"{folder}/{n}.png": picture(n + 1) for folder in folders for n in range(2)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert sorted(labels(rows)) == sorted(folder for folder in folders for _ in range(2))


def test_a_list_that_says_more_about_the_images_is_asked_about(tmp_path: Path) -> None:
    files: Files = {**LAYOUTS["Pascal VOC"][0], "list.txt": "0 kitchen\n1 street\n2 kitchen\n"}
    place = put(tmp_path / "data", files)
    with pytest.raises(
        ChoiceNeededError, match=r"list\.txt also states something about each image \(kitchen\)"
    ) as asked:
        prepare(Home("/nowhere"), str(place))
    assert "--exclude 'list.txt'" in asked.value.remedy
    assert len(added(place, tmp_path / "home", exclude=("list.txt",))) == 3


class TestAnnotatedImages(AdapterContract):
    reads_gz = False  # an image is compressed already

    @pytest.fixture
    def adapter(self) -> AnnotatedImages:
        return AnnotatedImages("YOLO")

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[SourceFile]:
        tree = {**LAYOUTS["YOLO"][0], "images/train/3.png": picture(4), "masks/train/1.png": picture(9)}
        place = put(tmp_path / "tree", tree)
        return [SourceFile(str(place / name), name, (place / name).stat().st_size) for name in sorted(tree)]
