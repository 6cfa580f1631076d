"""Files of language data and of the sciences that other libraries write."""

from __future__ import annotations

import warnings
from datetime import date
from pathlib import Path
from typing import Any

from tests.formats_by_others.written import PLAIN, Row, writer

SEQUENCES: list[Row] = [{"id": f"AB00{n}", "sequence": "acgttgca" * (n + 9)} for n in range(4)]
ALIGNED: list[Row] = [{"name": f"s{n}", "sequence": "AC-GT" * 30} for n in range(4)]
SPECTRA: list[Row] = [{"title": f"spectrum {n}", "mz": [100.5, 200.25 + n], "intensity": [1.5, 2e5]} for n in range(4)]
MODELS: list[Row] = [
    {"model": n, "x": [0.125, 1.125], "y": [n + 0.5, n + 0.5], "atom_names": ["N", "CA"], "residues": ["GLY", "GLY"]}
    for n in range(3)
]
TREES: list[Row] = [
    {"label": "S", "tokens": ["Ann", f"word{n}"], "pos_tags": ["NNP", "VBZ"], "text": f"Ann word{n}"} for n in range(4)
]

FIELDS: list[Row] = [
    {"name": f"Zoë {n}", "n": n, "x": n + 0.25, "day": f"2020-01-0{n + 1}", "ok": n % 2 == 0} for n in range(5)
]
SHAPES: list[Row] = [
    {"name": f"Åé {n}", "n": n, "parts": [[[0.0, 0.0], [n + 0.5, 1.0]], [[2.0, 2.0], [3.0, 4.0]]]} for n in range(4)
]


def _records() -> list[Any]:
    from Bio.Seq import Seq
    from Bio.SeqFeature import SeqFeature, SimpleLocation
    from Bio.SeqRecord import SeqRecord

    records = []
    for row in SEQUENCES:
        record = SeqRecord(Seq(row["sequence"]), id=row["id"], name=row["id"], description="A gene " * 20)
        record.annotations = {"molecule_type": "DNA", "organism": "Homo sapiens", "comment": "One.\nTwo."}
        note = 'It is "long", so that it has to be wrapped over the lines of the file, as many of them are.'
        record.features.append(SeqFeature(SimpleLocation(0, 9), type="CDS", qualifiers={"note": [note]}))
        records.append(record)
    return records


@writer("GenBank of Biopython", "Bio", SEQUENCES, part=True)
def _(folder: Path) -> None:
    from Bio import SeqIO

    SeqIO.write(_records(), folder / "x.gb", "genbank")


@writer("EMBL of Biopython", "Bio", SEQUENCES, part=True)
def _(folder: Path) -> None:
    from Bio import SeqIO

    SeqIO.write(_records(), folder / "x.embl", "embl")


def _alignment() -> Any:
    from Bio.Align import MultipleSeqAlignment
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    return MultipleSeqAlignment([SeqRecord(Seq(row["sequence"]), id=row["name"]) for row in ALIGNED])


@writer("Stockholm of Biopython", "Bio", ALIGNED, part=True)
def _(folder: Path) -> None:
    from Bio import AlignIO

    AlignIO.write(_alignment(), folder / "x.sto", "stockholm")


@writer("Clustal of Biopython", "Bio", ALIGNED, part=True)
def _(folder: Path) -> None:
    from Bio import AlignIO

    AlignIO.write(_alignment(), folder / "x.aln", "clustal")


@writer("PDB of Biopython", "Bio", MODELS, part=True)
def _(folder: Path) -> None:
    import numpy as np
    from Bio.PDB import PDBIO, Atom, Chain, Model, Residue, Structure

    structure = Structure.Structure("1ABC")
    for row in MODELS:
        model, chain = Model.Model(row["model"]), Chain.Chain("A")
        structure.add(model)
        model.add(chain)
        residue = Residue.Residue((" ", 1, " "), "GLY", "")
        chain.add(residue)
        for at, name in enumerate(row["atom_names"]):
            place = np.array([row["x"][at], row["y"][at], -3.25])
            residue.add(Atom.Atom(name, place, 10.5, 1.0, " ", f" {name:<3}", at + 1, element=name[0]))
    out = PDBIO()
    out.set_structure(structure)
    out.save(str(folder / "x.pdb"))


@writer("MGF of Pyteomics", "pyteomics", SPECTRA, part=True)
def _(folder: Path) -> None:
    import numpy as np
    from pyteomics import mgf

    spectra = [
        {"m/z array": np.array(r["mz"]), "intensity array": np.array(r["intensity"]), "params": {"title": r["title"]}}
        for r in SPECTRA
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mgf.write(spectra, str(folder / "x.mgf"))


@writer("ECSV of astropy", "astropy", PLAIN)
def _(folder: Path) -> None:
    from astropy.table import Table

    Table(rows=PLAIN).write(folder / "x.ecsv", format="ascii.ecsv")


@writer("trees of NLTK", "nltk", TREES, part=True, kind="text")
def _(folder: Path) -> None:
    from nltk import Tree

    trees = [Tree.fromstring(f"(S (NP (NNP Ann)) (VP (VBZ word{n})))") for n in range(4)]
    (folder / "x.mrg").write_text("\n".join(tree.pformat(margin=12) for tree in trees))


@writer("positions of chess", "chess", [{"turn": "w" if n % 2 else "b", "operations": {"id": f"p{n}"}} for n in range(4)],
        part=True)  # fmt: skip
def _(folder: Path) -> None:
    import chess

    boards = [chess.Board() for _ in range(4)]
    for number, board in enumerate(boards):
        board.turn = bool(number % 2)
    (folder / "x.epd").write_text("".join(board.epd(id=f"p{n}") + "\n" for n, board in enumerate(boards)))


@writer("shapefile of pyshp", "shapefile", SHAPES, part=True)
def _(folder: Path) -> None:
    import shapefile

    with shapefile.Writer(str(folder / "x"), shapeType=shapefile.POLYLINE, encoding="utf-8") as out:
        out.field("name", "C", 20)
        out.field("n", "N", 8)
        for row in SHAPES:
            out.line(row["parts"])
            out.record(row["name"], row["n"])
    (folder / "x.cpg").write_text("UTF-8")


@writer("dBase table of dbf", "dbf", [{key.upper(): value for key, value in row.items()} for row in FIELDS])
def _(folder: Path) -> None:
    import dbf

    with dbf.Table(str(folder / "x.dbf"), "name C(20); n N(5,0); x N(8,2); day D; ok L", codepage="cp1250") as table:
        for row in FIELDS:
            table.append((row["name"], row["n"], row["x"], date.fromisoformat(row["day"]), row["ok"]))


@writer("stream of MessagePack", "msgpack", PLAIN)
def _(folder: Path) -> None:
    import msgpack

    (folder / "x.msgpack").write_bytes(b"".join(msgpack.packb(row) for row in PLAIN))


TRACKS: list[Row] = [
    {"kind": "track", "name": f"Tour é {n}", "segments": [[{"lat": 10.5 + n, "lon": 20.25}]]} for n in range(4)
]
PLACES: list[Row] = [
    {"name": f"P {n}", "shapes": [{"type": "line", "parts": [[[0.0, n + 0.5, 1.0], [2.0, 3.0, 4.0]]]}]}
    for n in range(4)
]


@writer("GPX of gpxpy", "gpxpy", TRACKS, part=True)
def _(folder: Path) -> None:
    from gpxpy import gpx

    out = gpx.GPX()
    for row in TRACKS:
        track, segment = gpx.GPXTrack(name=row["name"]), gpx.GPXTrackSegment()
        point = row["segments"][0][0]
        segment.points.append(gpx.GPXTrackPoint(point["lat"], point["lon"]))
        track.segments.append(segment)
        out.tracks.append(track)
    (folder / "x.gpx").write_text(out.to_xml())


@writer("KML of simplekml", "simplekml", PLACES, part=True)
def _(folder: Path) -> None:
    import simplekml

    out = simplekml.Kml(name="Places")
    for row in PLACES:
        out.newlinestring(name=row["name"], coords=[tuple(point) for point in row["shapes"][0]["parts"][0]])
    out.save(str(folder / "x.kml"))
