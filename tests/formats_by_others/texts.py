"""Annotated and plain texts that other libraries write."""

from __future__ import annotations

import json
import plistlib
from configparser import ConfigParser
from pathlib import Path

from tests.formats_by_others.written import ASKED, REFUSED, Row, writer

PROSE = [
    "It was night. Nobody came; the sea was grey, and the ship lay still.\n\nThen it rained.\n" * (n + 2)
    for n in range(5)
]
DOCUMENTS: list[Row] = [{"text": text} for text in PROSE]
CUES: list[Row] = [
    {"start": n * 2.0, "end": n * 2 + 1.5, "text": f"Nobody came,\nand {n} ships left."} for n in range(5)
]
SENTENCES: list[Row] = [
    {"tokens": ["The", "sea", "was", word], "text": f"The sea was {word}"} for word in ("grey", "blue", "calm")
]


@writer("text files", "pathlib", DOCUMENTS, kind="text", part=True)
def _(folder: Path) -> None:
    for number, text in enumerate(PROSE):
        (folder / f"{number}.txt").write_text(text)


@writer("SubRip of pysubs2", "pysubs2", CUES, kind="text", part=True)
def _(folder: Path) -> None:
    import pysubs2

    file = pysubs2.SSAFile()
    for cue in CUES:
        event = pysubs2.SSAEvent(start=int(cue["start"] * 1000), end=int(cue["end"] * 1000))
        event.plaintext = cue["text"]
        file.append(event)
    file.save(str(folder / "x.srt"))


@writer("SubRip of srt", "srt", CUES, kind="text", part=True)
def _(folder: Path) -> None:
    from datetime import timedelta

    import srt

    cues = [
        srt.Subtitle(n, timedelta(seconds=c["start"]), timedelta(seconds=c["end"]), c["text"])
        for n, c in enumerate(CUES, 1)
    ]
    (folder / "x.srt").write_text(srt.compose(cues))


@writer("WebVTT of webvtt", "webvtt", CUES, kind="text", part=True)
def _(folder: Path) -> None:
    import webvtt

    file = webvtt.WebVTT()
    for cue in CUES:
        file.captions.append(webvtt.Caption(f"00:00:{cue['start']:06.3f}", f"00:00:{cue['end']:06.3f}", cue["text"]))
    file.save(str(folder / "x.vtt"))


@writer("CoNLL-U of conllu", "conllu", SENTENCES, kind="text", part=True)
def _(folder: Path) -> None:
    import conllu

    names = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
    found = []
    for sentence in SENTENCES:
        tokens = [
            conllu.Token(dict(zip(names, [n, word, word.lower(), "X", None, None, 0, "root", None, None], strict=True)))
            for n, word in enumerate(sentence["tokens"], 1)
        ]
        found.append(conllu.TokenList(tokens, conllu.Metadata({"text": sentence["text"]})).serialize())
    (folder / "x.conllu").write_text("".join(found))


@writer(
    "examples of scikit-learn",
    "sklearn",
    [{"label": float(n % 2), "values": [n + 0.5, 2.5]} for n in range(1, 9)],
    part=True,
)
def _(folder: Path) -> None:
    import numpy as np
    from sklearn.datasets import dump_svmlight_file

    dump_svmlight_file(
        np.array([[n + 0.5, 2.5] for n in range(1, 9)]), [n % 2 for n in range(1, 9)], str(folder / "x.svm")
    )


@writer("notebook of nbformat", "nbformat", [{"text": "# The sea"}, {"text": "print(1)"}], kind="text", part=True)
def _(folder: Path) -> None:
    import nbformat.v4

    cells = [nbformat.v4.new_markdown_cell("# The sea"), nbformat.v4.new_code_cell("print(1)")]
    (folder / "x.ipynb").write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))


@writer("calendar of icalendar", "icalendar", [{"summary": "A day at the sea"}], part=True)
def _(folder: Path) -> None:
    import icalendar

    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//x//")
    calendar.add("version", "2.0")
    event = icalendar.Event()
    event.add("summary", "A day at the sea")
    calendar.add_component(event)
    (folder / "x.ics").write_bytes(calendar.to_ical())


@writer("settings of configparser", "configparser", ends=REFUSED, says="INI")
def _(folder: Path) -> None:
    settings = ConfigParser()
    settings["sea"] = {"colour": "grey", "ships": "5"}
    with (folder / "x.ini").open("w") as out:
        settings.write(out)


@writer("property list of plistlib", "plistlib", [{"id": n} for n in range(5)], ends=REFUSED, says="property list")
def _(folder: Path) -> None:
    (folder / "x.plist").write_bytes(plistlib.dumps([{"id": n} for n in range(5)]))


@writer("texts beside annotations of BRAT", "pathlib", [{"text": PROSE[0]}], kind="text", part=True, ends=ASKED)
def _(folder: Path) -> None:
    (folder / "x.txt").write_text(PROSE[0])
    sea, ship = PROSE[0].index("sea"), PROSE[0].index("ship")
    (folder / "x.ann").write_text(
        f"T1\tPlace {sea} {sea + 3}\tsea\nT2\tThing {ship} {ship + 4}\tship\nR1\tNear Arg1:T1 Arg2:T2\n"
    )
