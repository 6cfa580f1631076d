"""Raw files of language data: treebanks of shared tasks, trees, pronunciations, fields parted by words, Python dicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.registry import format_named
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import SourceDamagedError, SourceFormatError

CONLL_2009 = (
    "1\tThe\tthe\tthe\tDT\tDT\t_\t_\t2\t2\tNMOD\tNMOD\t_\t_\t_\n"
    "2\tcat\tcat\tcat\tNN\tNN\t_\t_\t3\t3\tSBJ\tSBJ\t_\t_\tA0\n"
    "3\tsat\tsit\tsit\tVBD\tVBD\t_\t_\t0\t0\tROOT\tROOT\tY\tsit.01\t_\n\n"
    "1\tGo\tgo\tgo\tVB\tVB\t_\t_\t0\t0\tROOT\tROOT\t_\t_\n"
)
CONLL_2012 = (
    "#begin document (bc/cctv/00/cctv_0000); part 000\n"
    "bc/cctv/00/cctv_0000 0 0 In IN (TOP(S(PP* - - - Speaker#1 * * (15\n"
    "bc/cctv/00/cctv_0000 0 1 the DT (NP* - - - Speaker#1 (DATE* * -\n"
    "bc/cctv/00/cctv_0000 0 2 summer NN *)) - - 4 Speaker#1 *) * 15)\n"
    "bc/cctv/00/cctv_0000 0 3 swim VB (VP*))) swim 01 2 Speaker#1 (X) (V*) -\n\n"
    "bc/cctv/00/cctv_0000 0 0 Go VB (TOP(S*)) go 01 - - * (V*) -\n\n#end document\n"
)
CONLL_PLUS = "# global.columns = ID FORM PARSEME:MWE\n# sent_id = a\n1-2\tdont\t_\n1\tdo\t*\n2\tnt\t1\n\n1\tYes\t*\n"
GERMEVAL = "# http://de.wikipedia.org/wiki/Rom [2009]\n1\tIn\tO\tO\n2\tRom\tB-LOC\tO\n\n# x\n1\tAda\tB-PER\tB-LOC\n"
TREES = "\n( (S \n    (NP-SBJ (NNP Ann) )\n    (VP (VBZ is) (NP (-NONE- *)) (-LRB- -LRB-) )\n    (. .) ))\n(S (VB Go))(S (VB On))\n"
SENTIMENT = "(3 (2 (2 The) (2 rock)) (4 shines))\n(1 (2 Bad) (1 film))\n"
WORDS = ';;; # notes\n"QUOTE  K W OW1 T\nA  AH0\nA(1)  EY1\nABACK  AH0 B AE1 K\n'
MORE_WORDS = "'bout B AW1 T\na AH0\na(2) EY1\naalborg AO1 L B AO0 R G # place, danish\n"
LINES = "".join(f"L{n} +++$+++ u{n % 2} +++$+++ Ann +++$+++ {text}\n" for n, text in enumerate(
    ["They do not!", "", 'I said "so".', "A :: b", "é", "Yes."]))  # fmt: skip
RATINGS = "".join(f"{n}::{n + 7}::{n / 2}::0{n}\n" for n in range(20))
NAMED = "user::film::rating\n" + "".join(f"u{n}::{n + 7}::{n / 4 + 0.25}\n" for n in range(6))
DICTS = (
    "{'id': 'A1', 'helpful': [0, 2], 'text': \"it's\\nfine {\", 'score': 5.0, 'new': True, 'x': None, 'pair': (1, 2)}\n"
    "{'id': 'A2', 'helpful': [], 'text': 'no', 'score': 4, 'new': False, 'x': None, 'pair': (1,)}\n\n"
)
SAMPLES: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "a.conll": ("treebank", CONLL_2009, [
        {"text": "The cat sat", "ids": ["1", "2", "3"], "heads": ["2", "3", "0"], "predicates": ["_", "_", "sit.01"],
         "deprels": ["NMOD", "SBJ", "ROOT"], "arguments": [["_", "A0", "_"]]},
        {"text": "Go", "lemmas": ["go"], "arguments": []}]),
    "a.v4_gold_conll": ("treebank", CONLL_2012, [
        {"text": "In the summer swim", "document": "bc/cctv/00/cctv_0000", "part": "0", "arguments": [["*", "*", "*", "(V*)"]],
         "ner_tags": ["O", "B-DATE", "I-DATE", "B-X"], "coreference": ["(15", "-", "15)", "-"],
         "parse": "(TOP(S(PP(IN In)(NP(DT the)(NN summer)))(VP(VB swim))))"},
        {"text": "Go", "ner_tags": ["O"], "parse": "(TOP(S(VB Go)))", "arguments": [["(V*)"]]}]),
    "a.conllup": ("treebank", CONLL_PLUS, [
        {"text": "do nt", "sent_id": "a", "ids": ["1-2", "1", "2"], "tokens": ["dont", "do", "nt"], "mwe": ["_", "*", "1"]},
        {"text": "Yes", "tokens": ["Yes"], "mwe": ["*"]}]),
    "NER-de-train.tsv": ("conll", GERMEVAL, [
        {"ids": ["1", "2"], "tokens": ["In", "Rom"], "column_1": ["O", "B-LOC"], "tags": ["O", "O"]},
        {"ids": ["1"], "tokens": ["Ada"], "tags": ["B-LOC"]}]),
    "wsj.mrg": ("trees", TREES, [
        {"text": "Ann is -LRB- .", "label": "S", "tokens": ["Ann", "is", "*", "-LRB-", "."],
         "pos_tags": ["NNP", "VBZ", "-NONE-", "-LRB-", "."],
         "tree": "((S (NP-SBJ (NNP Ann)) (VP (VBZ is) (NP (-NONE- *)) (-LRB- -LRB-)) (. .)))"},
        {"text": "Go", "tree": "(S (VB Go))"}, {"text": "On", "tree": "(S (VB On))"}]),
    "train.txt": ("trees", SENTIMENT, [
        {"text": "The rock shines", "label": "3", "pos_tags": ["2", "2", "4"]},
        {"text": "Bad film", "label": "1", "tree": "(1 (2 Bad) (1 film))"}]),
    "cmudict-0.7b": ("pronunciations", WORDS, [
        {"word": '"QUOTE', "variant": 1, "phones": ["K", "W", "OW1", "T"]}, {"word": "A", "variant": 1, "phones": ["AH0"]},
        {"word": "A", "variant": 1, "phones": ["EY1"]}, {"word": "ABACK", "phones": ["AH0", "B", "AE1", "K"]}]),
    "cmudict.dict": ("pronunciations", MORE_WORDS, [
        {"word": "'bout"}, {"word": "a", "variant": 1}, {"word": "a", "variant": 2, "phones": ["EY1"]},
        {"word": "aalborg", "phones": ["AO1", "L", "B", "AO0", "R", "G"], "comment": "place, danish"}]),
    "movie_lines.txt": ("worded-fields", LINES, [
        {"column_0": "L0", "column_1": "u0", "column_2": "Ann", "column_3": "They do not!"}, {"column_0": "L1"},
        {"column_3": 'I said "so".'}, {"column_3": "A :: b"}, {"column_3": "é"}, {"column_3": "Yes."}]),
    "ratings.dat": ("worded-fields", RATINGS, [
        {"column_0": n, "column_1": n + 7, "column_2": n / 2, "column_3": f"0{n}"} for n in range(20)]),
    "named.dat": ("worded-fields", NAMED, [
        {"user": f"u{n}", "film": n + 7, "rating": n / 4 + 0.25} for n in range(6)]),
    "reviews.json": ("python-literals", DICTS, [
        {"id": "A1", "helpful": [0, 2], "text": "it's\nfine {", "new": True, "pair": [1, 2]},
        {"id": "A2", "helpful": [], "text": "no", "new": False, "pair": [1]}]),
}  # fmt: skip


def rows_of(path: Path) -> tuple[str, list[dict[str, Any]]]:
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    found = [row for shard in part.shards for c in part.adapter.read(shard) for row in c.batch.to_pylist()]
    return type(part.adapter).__name__, found


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
    assert read(adapter, windows).rows == read(adapter, plain).rows


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.v4_gold_conll", CONLL_2012.replace("#end document\n", ""), "ends within a document"),
        ("wsj.mrg", TREES[: TREES.rindex(")")], "ends within a tree"),
        ("wsj.mrg", TREES + "stray\n", "is outside of the trees"),
    ],
)
def test_a_cut_file_is_damaged(
    name: str, content: str, words: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    found = read(format_named(SAMPLES[name][0]).load().ADAPTER(), write(name, content))
    assert isinstance(found.error, SourceDamagedError)
    assert words in str(found.error)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("a.conll", "\n1\tx\tx\tx\tNN\tNN\t_\t_\t0\t0\tR\tR\tY\tx.01\n\n"),
        ("a.conllup", "\n1\tx\n"),
        ("wsj.mrg", "(S (NP a b) (VP c))\n"),
        ("cmudict.dict", "word without phones\n"),
        ("ratings.dat", "1::2\n"),
        ("reviews.json", "{'a': open('x')}\n"),
        ("reviews.json", "{'a': 1e999}\n"),
        ("reviews.json", "{'a': " + "[" * 200 + "]" * 200 + "}\n"),
    ],
)
def test_a_record_that_is_none_is_rejected(
    name: str, bad: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    reader, content, expected = SAMPLES[name]
    found = read(format_named(reader).load().ADAPTER(), write(name, content + bad))
    assert found.error is None
    assert len(found.rows) == len(expected) + (name == "a.conll")  # a predicate without arguments is a test set
    assert [r.row for r in found.rejects] == ([] if name == "a.conll" else [len(expected)])


def test_a_number_after_many_texts_keeps_the_column_text(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    content = "".join(f"{n}::{n}\n" for n in range(9000)) + "01::x\n"
    found = read(format_named("worded-fields").load().ADAPTER(), write("a.dat", content))
    assert [type(v) for v in (found.rows[0]["column_0"], found.rows[-1]["column_1"])] == [str, str]


def test_lines_with_ever_other_numbers_of_fields_are_refused_by_name(write: Callable[..., Path]) -> None:
    path = write("a.txt", "".join("a" + "::b" * (n % 4 + 1) + "\n" for n in range(12)))
    with pytest.raises(SourceFormatError, match="fields parted by a word"):
        plan_source(resolve(str(path)), "x", Wishes())


def test_a_table_of_judgements_is_no_genome(write: Callable[..., Path]) -> None:
    adapter, found = rows_of(write("qrels.train.tsv", "".join(f"{1185869 + n}\t0\t{n}\t1\n" for n in range(30))))
    assert adapter == "Delimited"
    assert list(found[1].values()) == [1185870, 0, 1, 1]


class TestLanguageRecords(AdapterContract):
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
