"""Pictures and clips are joined with what the files beside them say: tables, transcripts, lists of splits, folders."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.media_trees import PNG, added, labels, put, roles, texts, wav

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError, CholineDataError, SourceFormatError
from choline_data.places.home import Home

SPEECH: dict[str, tuple[dict[str, str | bytes], dict[str, Any]]] = {
    "LibriSpeech": (
        {
            "LibriSpeech/dev-clean/84/121123/84-121123-0000.wav": wav(1),
            "LibriSpeech/dev-clean/84/121123/84-121123-0001.wav": wav(2),
            "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt": "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS\n",
            "LibriSpeech/dev-clean/174/50561/174-50561-0000.wav": wav(3),
            "LibriSpeech/dev-clean/174/50561/174-50561.trans.txt": "174-50561-0000 FORGOTTEN TOO\n",
            "LibriSpeech/README.TXT": "about",
        },
        {"84-121123-0000": "GO DO YOU HEAR", "84-121123-0001": "BUT IN LESS", "174-50561-0000": "FORGOTTEN TOO"},
    ),
    "LJSpeech": (
        {
            "wavs/LJ001-0001.wav": wav(1),
            "wavs/LJ001-0002.wav": wav(2),
            "metadata.csv": "LJ001-0001|Printing, in 1455|Printing, in fourteen fifty-five\nLJ001-0002|in being|in being\n",
        },
        {"LJ001-0001": "Printing, in 1455", "LJ001-0002": "in being"},
    ),
    "a list for speech synthesis": (
        {
            "wavs/a1.wav": wav(1),
            "wavs/a2.wav": wav(2),
            "wavs/a3.wav": wav(3),
            "wavs/a4.wav": wav(4),
            "filelist.txt": "".join(f"wavs/a{n}.wav|{n % 2}|Sentence number {n}.\n" for n in range(1, 5)),
        },
        {f"a{n}": f"Sentence number {n}." for n in range(1, 5)},
    ),
    "VCTK": (
        {
            "wav48/p225/p225_001.wav": wav(1),
            "wav48/p226/p226_001.wav": wav(2),
            "txt/p225/p225_001.txt": "Please call Stella.\n",
            "txt/p226/p226_001.txt": "Ask her.\n",
        },
        {"p225_001": "Please call Stella.", "p226_001": "Ask her."},
    ),
    "TIMIT": (
        {
            "TRAIN/DR1/FCJF0/SA1.WAV": wav(1),
            "TRAIN/DR1/FCJF0/SA1.TXT": "0 46797 She had your dark suit.\n",
            "TRAIN/DR1/FCJF0/SA1.PHN": "0 3050 h#\n3050 4559 sh\n",
            "TRAIN/DR1/FCJF0/SA2.WAV": wav(2),
            "TRAIN/DR1/FCJF0/SA2.TXT": "0 46797 Another one here.\n",
            "TRAIN/DR1/FCJF0/SA2.PHN": "0 3050 h#\n",
        },
        {"SA1": "She had your dark suit.", "SA2": "Another one here."},
    ),
    "Kaldi": (
        {
            "audio/rec1.wav": wav(1),
            "audio/rec2.wav": wav(2),
            "data/wav.scp": "utt-a /old/place/audio/rec1.wav\nutt-b sox /old/place/audio/rec2.wav -t wav - |\n",
            "data/text": "utt-a HELLO THERE\nutt-b GOOD BYE\n",
            "data/utt2spk": "utt-a ann\nutt-b bob\n",
        },
        {"rec1": "HELLO THERE", "rec2": "GOOD BYE"},
    ),
    "Sphinx": (
        {
            "wav/s1.wav": wav(1),
            "wav/s2.wav": wav(2),
            "etc/x.fileids": "s1\ns2\n",
            "etc/x.transcription": "<s> first words </s> (s1)\n<s> second words </s> (s2)\n",
        },
        {"s1": "first words", "s2": "second words"},
    ),
    "CMU Arctic": (
        {
            "wav/arctic_a0001.wav": wav(1),
            "wav/arctic_a0002.wav": wav(2),
            "etc/txt.done.data": '( arctic_a0001 "Author of the danger trail." )\n( arctic_a0002 "Not at this case." )\n',
        },
        {"arctic_a0001": "Author of the danger trail.", "arctic_a0002": "Not at this case."},
    ),
    "AISHELL": (
        {
            "wav/S0002/BAC009S0002W0122.wav": wav(1),
            "wav/S0002/BAC009S0002W0123.wav": wav(2),
            "transcript/aishell_transcript.txt": "BAC009S0002W0122 而 对 楼市\nBAC009S0002W0123 也 成为\nBAC009S0002W0999 没有\n",
        },
        {"BAC009S0002W0122": "而 对 楼市", "BAC009S0002W0123": "也 成为"},
    ),
    "Common Voice": (
        {
            "en/clips/common_1.wav": wav(1),
            "en/clips/common_2.wav": wav(2),
            "en/clips/common_3.wav": wav(3),
            **{
                f"en/{name}.tsv": "client_id\tpath\tsentence\tup_votes\n"
                + "".join(f"c{n}\tcommon_{n}.wav\tSentence {n} is here.\t2\n" for n in numbers)
                for name, numbers in {"train": [1], "test": [2], "dev": [3], "validated": [1, 2, 3]}.items()
            },
        },
        {f"common_{n}": f"Sentence {n} is here." for n in (1, 2, 3)},
    ),
    "NeMo": (
        {
            "audio/n1.wav": wav(1),
            "audio/n2.wav": wav(2),
            "manifest.json": "".join(
                json.dumps({"audio_filepath": f"/data/audio/n{n}.wav", "text": f"number {n} said", "duration": 0.01})
                + "\n"
                for n in (1, 2)
            ),
        },
        {"n1": "number 1 said", "n2": "number 2 said"},
    ),
}


@pytest.mark.parametrize("layout", SPEECH)
def test_the_transcripts_of_a_speech_layout_are_joined(tmp_path: Path, layout: str) -> None:
    files, expected = SPEECH[layout]
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert texts(rows) == expected
    assert all(row["media"][0]["mime"] == "audio/wav" for row in rows)
    assert not any(row.get("label") for row in rows)


def test_parts_of_recordings_are_refused_by_name(tmp_path: Path) -> None:
    files = {**SPEECH["Kaldi"][0], "data/segments": "utt-a rec1 0.0 1.5\n"}
    with pytest.raises(SourceFormatError, match="Kaldi segments"):
        prepare(Home("/nowhere"), str(put(tmp_path / "kaldi", files)))
    row = {"audio_filepath": "a.wav", "text": "x", "duration": 1.0, "offset": 2.5}
    with pytest.raises(SourceFormatError, match="parts of recordings"):
        prepare(
            Home("/nowhere"),
            str(put(tmp_path / "nemo", {"a.wav": wav(), "m.json": json.dumps(row) + "\n" + json.dumps(row)})),
        )


def test_recordings_whose_parts_are_transcribed_are_refused_by_name(tmp_path: Path) -> None:
    parts = [{"sid": f"S{n}", "begin_time": 5.0 * n, "end_time": 5.0 * n + 4, "text_tn": f"PART {n}"} for n in range(3)]
    audios = [{"aid": f"A{n}", "path": f"audio/A{n}.wav", "segments": parts} for n in range(3)]
    files: dict[str, str | bytes] = {f"audio/A{n}.wav": wav(n) for n in range(3)}
    files["GigaSpeech.json"] = json.dumps({"dataset": "GigaSpeech", "audios": audios})
    with pytest.raises(SourceFormatError, match="'segments' transcribes parts of them"):
        prepare(Home("/nowhere"), str(put(tmp_path / "data", files)))


def test_the_label_of_speech_commands_is_the_folder_and_lists_decide_the_split(tmp_path: Path) -> None:
    names = [f"{word}/{speaker}_nohash_0.wav" for word in ("bed", "dog") for speaker in ("0a7c2a8d", "1b", "2c")]
    files: dict[str, str | bytes] = {name: wav(n) for n, name in enumerate(names)}
    files |= {"testing_list.txt": "bed/1b_nohash_0.wav\n", "validation_list.txt": "dog/2c_nohash_0.wav\n"}
    place = put(tmp_path / "data", files)
    rows = added(place, tmp_path / "home")
    assert set(labels(rows)) == {"bed", "dog"}
    plan = prepare(Home("/nowhere"), str(place)).plan
    splits = {f.name: s.split for part in plan.parts for s in part.shards for f in s.files if f.name.endswith("wav")}
    assert {splits.pop("bed/1b_nohash_0.wav"), splits.pop("dog/2c_nohash_0.wav")} == {"test", "validation"}
    assert set(splits.values()) == {"train"}
    assert roles(place) == {"testing_list.txt": "joined", "validation_list.txt": "joined"}


def test_labels_in_names_count_without_folders(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"recordings/{d}_{s}_{n}.wav": wav(d) for d in (1, 2) for s in ("ann", "bob") for n in (0, 1)
    }
    assert set(labels(added(put(tmp_path / "data", files), tmp_path / "home"))) == {"1", "2"}


def test_esc50_is_joined_by_the_table_in_another_folder(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"audio/1-{n}-A-0.wav": wav(n) for n in range(4)}
    files["meta/esc50.csv"] = "filename,fold,target,category\n" + "".join(f"1-{n}-A-0.wav,1,0,dog\n" for n in range(4))
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert labels(rows) == ["dog"] * 4
    assert all(row["media"][0]["data"] for row in rows)


def test_kaggle_pictures_are_named_without_extension(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"train_images/{n:04x}.png": PNG for n in range(6)}
    files |= {f"test_images/{n:04x}.png": PNG for n in range(2)}
    files["train.csv"] = "id_code,diagnosis\n" + "".join(f"{n:04x},{n % 3}\n" for n in range(6))
    files["test.csv"] = "id_code\n" + "".join(f"{n:04x}\n" for n in range(2))
    files["sample_submission.csv"] = "id_code,diagnosis\n" + "".join(f"{n:04x},0\n" for n in range(2))
    place = put(tmp_path / "data", files)
    rows = added(place, tmp_path / "home")
    assert (
        sorted(row["media"][0]["uri"].partition("/")[0] for row in rows) == ["test_images"] * 2 + ["train_images"] * 6
    )
    assert roles(place) == {"train.csv": "joined", "test.csv": "joined", "sample_submission.csv": "left out"}


def test_llava_chats_have_their_pictures(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]
    chats = [{"id": str(n), "image": f"coco/train2017/{n:012}.png", "conversations": turns} for n in range(3)]
    chats.append({"id": "t", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]})
    files: dict[str, str | bytes] = {f"images/coco/train2017/{n:012}.png": PNG for n in range(3)}
    place = put(tmp_path / "data", {**files, "llava_instruct.json": json.dumps(chats)})
    rows = added(place, tmp_path / "home")
    assert [len(row["turns"]) for row in rows] == [2] * 4
    assert [[m["data"] for m in row["media"] or []] for row in rows] == [[PNG]] * 3 + [[]]


def test_a_row_that_names_a_missing_picture_is_rejected(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.png": PNG for n in range(3)}
    place = put(
        tmp_path / "data",
        {**files, "t.csv": "file,caption\n0.png,zero it is\n1.png,one it is\n2.png,two\n9.png,nine\n"},
    )
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(place), wishes=Wishes(max_rejects=0.5)))
    assert (done.rows, done.rejected) == (3, 1)
    assert "names '9.png', which is not there" in done.rejects[0].reason


def test_pictures_that_no_row_names_are_asked_about(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"train/{n}.png": PNG for n in range(4)} | {
        f"spare/x{n}.png": PNG for n in range(2)
    }
    files["train.csv"] = "image,label\n" + "".join(f"{n}.png,cat\n" for n in range(4))
    place = put(tmp_path / "data", files)
    with pytest.raises(
        ChoiceNeededError, match=r"2 media files belong to no row: spare/x0\.png, spare/x1\.png"
    ) as asked:
        prepare(Home("/nowhere"), str(place))
    assert "--exclude 'spare'" in asked.value.remedy
    assert len(added(place, tmp_path / "home", exclude=("spare",))) == 4


def test_join_says_which_column_names_the_media(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"p/{n}.png": PNG for n in range(4)}
    files["t.csv"] = "old,new,caption\n" + "".join(f"{n},{3 - n}.png,Picture {n} of them\n" for n in range(4))
    rows = added(put(tmp_path / "data", files), tmp_path / "home", join=("t.csv:new",))
    assert [row["media"][0]["uri"] for row in rows] == ["p/3.png", "p/2.png", "p/1.png", "p/0.png"]
    with pytest.raises(CholineDataError, match="name no media"):
        prepare(Home("/nowhere"), str(tmp_path / "data"), wishes=Wishes(join=("t.csv:caption",)))


def test_a_text_with_the_name_of_a_picture_is_its_caption(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.png": PNG for n in range(3)} | {
        f"{n}.txt": f"A photo of {n} cats." for n in range(3)
    }
    place = put(tmp_path / "data", files)
    assert texts(added(place, tmp_path / "home")) == {str(n): f"A photo of {n} cats." for n in range(3)}
    assert set(roles(place).values()) == {"joined"}


def test_boxes_in_numbers_are_no_captions(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"images/{n}.png": PNG for n in range(3)}
    files |= {f"labels/{n}.txt": "0 0.5 0.5 0.2 0.1\n" for n in range(3)}
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert [(row["text"], len(json.loads(row["extra"])["annotations"])) for row in rows] == [(None, 1)] * 3


def test_nested_class_folders_keep_their_path_as_label(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"Omniglot/{alphabet}/{character}/{n}.png": PNG
        for alphabet in ("Greek", "Latin")
        for character in ("character01", "character02")
        for n in range(2)
    }
    rows = added(put(tmp_path / "data", files), tmp_path / "home")
    assert set(labels(rows)) == {
        "Greek/character01",
        "Greek/character02",
        "Latin/character01",
        "Latin/character02",
    }


def test_a_table_within_a_zip_is_joined_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for n in range(3):
            archive.writestr(f"images/{n}.png", PNG)
        archive.writestr("labels.csv", "image,label\n0.png,cat\n1.png,dog\n2.png,cat\n")
    rows = added(tmp_path / "all.zip", tmp_path / "home")
    assert labels(rows) == ["cat", "dog", "cat"]
