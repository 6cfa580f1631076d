"""Texts of biology, chemistry and astronomy, games, music, family trees and logs: content, damage and rejects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_language_records import rows_of

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.registry import format_named
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import SourceDamagedError, SourceFormatError

GENBANK = (
    "LOCUS       AB000                     20 bp    DNA     linear   PRI 01-JAN-2020\n"
    "DEFINITION  Homo sapiens mRNA for something,\n            number 0.\nACCESSION   AB000 AB999\nVERSION     AB000.1\n"
    "KEYWORDS    a b; c.\nSOURCE      human\n  ORGANISM  Homo sapiens\n            Eukaryota; Metazoa.\n"
    "REFERENCE   1  (bases 1 to 20)\n  AUTHORS   Doe,J.\nCOMMENT     A comment\n\n            of two lines\n"
    "FEATURES             Location/Qualifiers\n     CDS             complement(join(1..9,\n                     12..20))\n"
    '                     /note="It has a ""quote"" and\n                     /goes on"\n                     /pseudo\n'
    '                     /translation="MMMM\n                     KK"\n                     /codon_start=1\n'
    "     exon            3..4\nORIGIN\n        1 acgttgcaac gttgcaacgt\n//\n"
)
UNIPROT = (
    "ID   001R_FRG3G              Reviewed;          12 AA.\nAC   Q6GZX4; Q00001;\nDE   RecName: Full=Factor 001R;\n"
    "OS   Frog virus 3.\nRN   [1]\nCC   -!- FUNCTION: Activation.\nKW   Activator; Reference proteome.\n"
    'FT   CHAIN           1..12\nFT                   /note="Factor"\nSQ   SEQUENCE   12 AA;  29735 MW;  B4840739 CRC64;\n'
    "     MAFSAEDVLK EY\n//\n"
)
STOCKHOLM = (
    "# STOCKHOLM 1.0\n#=GF ID Piwi\n#=GF AC PF1\n#=GS s1/1-4 AC X1\ns1/1-4   AC-\ns2       A-G\n#=GC SS_cons ...\n\n"
    "s1/1-4   GT\n#=GR s1/1-4 SS HH\n#=GR s1/1-4 SS EEE\ns2       G.\n//\n# STOCKHOLM 1.0\nonly ACGT\n//\n"
)
CLUSTAL = "CLUSTAL X (1.81) multiple sequence alignment\n\n\ns1   AC-GT 4\ns2   A--GT 3\n     *  **\n\ns1   GG\ns2   G-\n     *\n"
ATOM = "{:6}{:>5} {:4} {:3} {}{:>4}    {:8.3f}{:8.3f}{:8.3f}{:6.2f}{:6.2f}          {:>2}\n"
PDB = (
    f"HEADER    {'HYDROLASE':40}01-JAN-20   1ABC\nTITLE     A PROTEIN OF\nTITLE    2 NOTHING\n"
    + "".join(
        f"MODEL     {model:>4}\n"
        + ATOM.format("ATOM", 1, " CA", "GLY", "A", 1, 1.5, -2.25, model, 1, 10.5, "C")
        + ATOM.format("HETATM", 2, "ZN", "ZN", "A", 2, 0, 0, 3.125, 0.5, 2, "ZN")
        + "ENDMDL\n"
        for model in (1, 2)
    )
    + "END\n"
)
XYZ = "2\nwater, in part\nO 0.0 0.5 1.0\nH 1 1 -1 0.25\n1\n\nHe 1 2 3\n"
MOL2 = "".join(
    f"# note\n@<TRIPOS>MOLECULE\nm{n}\n 2 1 0 0 0\nSMALL\n\n@<TRIPOS>ATOM\n 1 C 0 0 0 C.3\n 2 O 1 0 0 O.3\n"
    "@<TRIPOS>BOND\n 1 1 2 1\n"
    for n in range(2)
)
MGF = (
    "COM=A run\nCHARGE=2+\n\nBEGIN IONS\nTITLE=a=b\nPEPMASS=500.25 1e4\n100.5 1.5\n200.25 2e5 1+\nEND IONS\n"
    "BEGIN IONS\nTITLE=c\nCHARGE=3+\n7 8\nEND IONS\n"
)
ECSV = (
    "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n# - {name: b c, unit: m, datatype: float64}\n"
    "# - {name: t, datatype: string}\n# - {name: ok, datatype: bool}\n# - {name: v, datatype: string, subtype: 'int64[2]'}\n"
    "# meta: !!omap\n# - {x: !astropy.units.Unit {unit: m}}\n# schema: astropy-2.0\n"
    'a "b c" t ok v\n1 1.5 "x y" True [1,2]\n"" inf "" False [3,4]\n3 2.0 "two\nlines" True [5,6]\n'
)
GEDCOM = (
    "0 HEAD\n1 CHAR UTF-8\n0 @I1@ INDI\n1 NAME Ada /Lovelace/\n1 NOTE A long\n2 CONT tëxt\n2 CONC ; here\n1 BIRT\n"
    "2 DATE 10 DEC 1815\n0 @N1@ NOTE First\n1 CONT second\n0 TRLR\n"
)
ABC = "%abc-2.1\nM:4/4\nO:Irish\n\nX:1\nT:Tune A\nT:Another\nL:1/8\nK:D % bright\n|:DEF|\n\nA text.\n\nX:2\nM:6/8\nK:Am\nABc|\n"
EPD = (
    '1k1r4/pp1b1R2/3q2pp/4p3/2B5/4Q3/PPP2B2/2K5 b - - bm Qd1+; id "B; 1";\n# note\n'
    "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1\n8/8/8/8/8/8/8/k1K5 w - - hmvc 0; fmvn 1;\n"
)
LOG = (
    '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326\n'
    '::1 - - [10/Oct/2000:13:55:36 -0700] "GET /?q=\\"x\\" HTTP/1.1" 404 - "http://x/" "Mozilla/5.0 (X11)"\n'
)
SAMPLES: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "a.gb": ("flat-file", GENBANK, [
        {"id": "AB000", "accessions": ["AB000", "AB999"], "version": "AB000.1", "keywords": ["a b", "c"],
         "description": "Homo sapiens mRNA for something, number 0.", "organism": "Homo sapiens",
         "comment": "A comment\n\nof two lines", "sequence": "acgttgcaacgttgcaacgt",
         "features": [{"type": "CDS", "location": "complement(join(1..9,12..20))", "qualifiers": [
             {"name": "note", "value": 'It has a "quote" and /goes on'}, {"name": "pseudo", "value": ""},
             {"name": "translation", "value": "MMMMKK"}, {"name": "codon_start", "value": "1"}]},
             {"type": "exon", "location": "3..4", "qualifiers": []}]}]),
    "a.dat": ("flat-file", UNIPROT * 2, [
        {"id": "001R_FRG3G", "accessions": ["Q6GZX4", "Q00001"], "sequence": "MAFSAEDVLKEY", "organism": "Frog virus 3.",
         "keywords": ["Activator", "Reference proteome"], "features": [
             {"type": "CHAIN", "location": "1..12", "qualifiers": [{"name": "note", "value": "Factor"}]}]}] * 2),
    "a.sto": ("alignment", STOCKHOLM, [
        {"name": "s1/1-4", "sequence": "AC-GT", "alignment": 0, "family": "Piwi", "accession": "PF1",
         "annotations": [("AC", "X1"), ("SS", "HHEEE")]},
        {"name": "s2", "sequence": "A-GG.", "alignment": 0, "annotations": []},
        {"name": "only", "sequence": "ACGT", "alignment": 1, "family": None}]),
    "a.aln": ("alignment", CLUSTAL, [{"name": "s1", "sequence": "AC-GTGG"}, {"name": "s2", "sequence": "A--GTG-"}]),
    "a.pdb": ("atoms", PDB, [
        {"id": "1ABC", "title": "A PROTEIN OF NOTHING", "model": n, "x": [1.5, 0.0], "z": [float(n), 3.125],
         "atom_names": ["CA", "ZN"], "is_hetero": [False, True], "elements": ["C", "ZN"], "occupancies": [1.0, 0.5]}
        for n in (1, 2)]),
    "a.xyz": ("atoms", XYZ, [
        {"title": "water, in part", "elements": ["O", "H"], "x": [0.0, 1.0], "z": [1.0, -1.0],
         "lines": ["O 0.0 0.5 1.0", "H 1 1 -1 0.25"]},
        {"title": None, "elements": ["He"], "y": [2.0]}]),
    "a.mol2": ("sdf", MOL2, [{"name": "m0"}, {"name": "m1", "structure": MOL2[MOL2.rindex("@<TRIPOS>MOLECULE") :]}]),
    "a.mgf": ("spectra", MGF, [
        {"title": "a=b", "pepmass": "500.25 1e4", "charge": "2+", "mz": [100.5, 200.25], "intensity": [1.5, 2e5],
         "peak_charges": [None, "1+"], "com": "A run"},
        {"title": "c", "charge": "3+", "mz": [7.0], "intensity": [8.0], "peak_charges": None}]),
    "a.ecsv": ("ecsv", ECSV, [
        {"a": 1, "b c": 1.5, "t": "x y", "ok": True, "v": [1, 2]}, {"a": None, "t": "", "ok": False, "v": [3, 4]},
        {"a": 3, "b c": 2.0, "t": "two\nlines"}]),
    "a.ged": ("gedcom", GEDCOM, [
        {"type": "HEAD"},
        {"id": "@I1@", "type": "INDI", "value": None, "lines": [
            {"level": 1, "tag": "NAME", "value": "Ada /Lovelace/"}, {"level": 1, "tag": "NOTE", "value": "A long\ntëxt; here"},
            {"level": 1, "tag": "BIRT", "value": ""}, {"level": 2, "tag": "DATE", "value": "10 DEC 1815"}]},
        {"id": "@N1@", "value": "First\nsecond", "lines": []}, {"type": "TRLR"}]),
    "a.abc": ("abc", ABC, [
        {"number": "1", "titles": ["Tune A", "Another"], "meter": "4/4", "origin": "Irish", "key": "D", "unit": "1/8",
         "text": "X:1\nT:Tune A\nT:Another\nL:1/8\nK:D % bright\n|:DEF|\n"},
        {"number": "2", "titles": None, "meter": "6/8", "origin": "Irish", "key": "Am"}]),
    "a.epd": ("chess-positions", EPD, [
        {"fen": "1k1r4/pp1b1R2/3q2pp/4p3/2B5/4Q3/PPP2B2/2K5 b - -", "turn": "b", "fullmove": None,
         "operations": [("bm", "Qd1+"), ("id", "B; 1")]},
        {"fen": "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1", "castling": "KQkq", "fullmove": 1, "operations": []},
        {"board": "8/8/8/8/8/8/8/k1K5", "operations": [("hmvc", "0"), ("fmvn", "1")]}]),
    "access.log": ("access-log", LOG, [
        {"host": "127.0.0.1", "user": "frank", "request": "GET /a.gif HTTP/1.0", "status": 200, "bytes": 2326, "referrer": None},
        {"host": "::1", "user": None, "request": 'GET /?q=\\"x\\" HTTP/1.1', "bytes": None, "user_agent": "Mozilla/5.0 (X11)"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_the_plain_command_reads_the_records(name: str, write: Callable[..., Path]) -> None:
    reader, content, expected = SAMPLES[name]
    adapter, found = rows_of(write(name, content))
    assert adapter == format_named(reader).load().ADAPTER.__name__
    assert [{key: row[key] for key in want} for row, want in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_line_ends_of_windows_change_nothing(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    reader, content, _ = SAMPLES[name]
    adapter = format_named(reader).load().ADAPTER()
    plain, windows = write("u_" + name, content), write("w_" + name, content.replace("\n", "\r\n"))
    assert repr(read(adapter, windows).rows) == repr(read(adapter, plain).rows)


@pytest.mark.parametrize(
    ("name", "cut", "words"),
    [
        ("a.gb", "//\n", "ends within an entry"),
        ("a.dat", "SQ   ", "ends within an entry"),
        ("a.sto", "//\n", "ends within an alignment"),
        ("a.aln", "G-\n", "not a line of an alignment"),
        ("a.pdb", "ENDMDL\nEND", "ends after an atom"),
        ("a.xyz", "He 1", "ends within a structure"),
        ("a.mol2", " 1 1 2 1\n", "ends within a molecule"),
        ("a.mgf", "END IONS", "ends within a spectrum"),
        ("a.ecsv", '\nlines"', "not delimited text"),
        ("a.ged", "0 TRLR", "before its trailer"),
    ],
)
def test_a_cut_file_is_damaged(
    name: str, cut: str, words: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    reader, content, expected = SAMPLES[name]
    found = read(format_named(reader).load().ADAPTER(), write(name, content[: content.rindex(cut)]))
    assert isinstance(found.error, SourceDamagedError)
    assert words in str(found.error)
    assert len(found.rows) < len(expected)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("a.gb", GENBANK.replace("20 bp", "21 bp")),
        ("a.pdb", PDB.replace("   1.500", "        ")),
        ("a.xyz", "1\n\nHe 1 2\n"),
        ("a.mol2", MOL2.replace(" 2 1 0", " 3 1 0", 1)),
        ("a.mgf", "BEGIN IONS\nTITLE=x\nx y\nEND IONS\n"),
        ("a.ecsv", "1 2 3\n"),
        ("a.ecsv", '99999999999999999999 1.0 "" True [1]\n'),
        ("a.epd", "8/8/8/8/8/8/8/9 w - - 0 1\n"),
        ("access.log", "what is this\n"),
    ],
)
def test_a_record_that_is_none_is_rejected(
    name: str, bad: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    reader, content, expected = SAMPLES[name]
    found = read(format_named(reader).load().ADAPTER(), write(name, content + bad))
    assert found.error is None
    assert found.rejects[0].row == len(expected)


@pytest.mark.parametrize("bad", ["#=GR s2 SS HH\n", "#=GR s9 SS HHHHH\n", "#=GS s2\n"])
def test_an_annotation_that_does_not_fit_its_sequence_is_damage(
    bad: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    found = read(
        format_named("alignment").load().ADAPTER(),
        write("a.sto", STOCKHOLM.replace("s2       G.\n", f"s2       G.\n{bad}")),
    )
    assert isinstance(found.error, SourceDamagedError)
    assert found.count == 0


def test_a_family_tree_in_ansel_is_refused(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    content = GEDCOM.replace("UTF-8", "ANSEL")
    found = read(format_named("gedcom").load().ADAPTER(), write("a.ged", content))
    assert isinstance(found.error, SourceFormatError)
    assert "ANSEL" in str(found.error)


def test_a_column_of_complex_numbers_is_refused_by_name(write: Callable[..., Path]) -> None:
    path = write("a.ecsv", ECSV.replace("float64", "complex128"))
    with pytest.raises(SourceFormatError, match=r"b c has the type 'complex128'"):
        plan_source(resolve(str(path)), "x", Wishes())


class TestScienceRecords(AdapterContract):
    @pytest.fixture(params=SAMPLES)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def adapter(self, name: str) -> Adapter:
        adapter: Adapter = format_named(SAMPLES[name][0]).load().ADAPTER()
        return adapter

    @pytest.fixture
    def files(self, name: str, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(name, SAMPLES[name][1]))]
