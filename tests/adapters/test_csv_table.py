"""Delimited text: which dialects are detected, which values become numbers, and which files are refused."""

import gzip

import pytest

from choline_data.adapters import csv_table
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.csv_table import Delimited
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError


class TestContract(AdapterContract):
    @pytest.fixture
    def adapter(self):
        return Delimited()

    @pytest.fixture
    def files(self, write, source_file):
        rows = "".join(f'{n},"a, b\n{n}",{n / 4}\n' for n in range(9000))
        return [
            source_file(write("a.csv.gz", gzip.compress(b"id,text,x\n" + rows.encode()))),
            source_file(write("b.tsv", "a\tb\n1\t2\n3\n4\t5\t6\n\n7\t8\n")),
        ]


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("a,b\n1,x\n", {"a": 1, "b": "x"}),
        ("a;b\n1;x,y\n", {"a": 1, "b": "x,y"}),
        ("a\tb\n1\tx\n", {"a": 1, "b": "x"}),
        ("a|b\n1|x\n", {"a": 1, "b": "x"}),
        ("\ufeffa,b\n1,x\n", {"a": 1, "b": "x"}),
        ("a,b\r\n1,x\r\n", {"a": 1, "b": "x"}),
        ('a,b\n1,"x ""y""\nz"\n', {"a": 1, "b": 'x "y"\nz'}),
        ("1 2.5 3\n4 5.5 6\n7  8.5   9\n", {"column_0": 1, "column_1": 2.5, "column_2": 3}),
        ("3,2,yes,no,maybe\n1,2,3,4,5\n1,2,3,4,5\n", {f"column_{n}": n + 1 for n in range(5)}),
        ("country,1990,1991\nA,5,6\nB,7,8\n", {"country": "A", "1990": 5, "1991": 6}),
        (",a\n0,x\n1,y\n", {"column_0": 0, "a": "x"}),
        ('a,  b, c\n"x, y",  "p, q", 1.5\n"z",    "r",    2\n', {"a": "x, y", "b": "p, q", "c": 1.5}),
        ("a, b\nx, y\nz,w\n", {"a": "x", " b": " y"}),
        (
            "".join(f"gi-{n}-ref-x,{w}\n" for n, w in enumerate(("ab", "cd", "ef", "gh", "ij"))),
            {"column_0": "gi-0-ref-x", "column_1": "ab"},
        ),
        ("id-1,w\n" + "".join(f"gi-{n}-ref-x,ab\n" for n in range(5)), {"id-1": "gi-0-ref-x", "w": "ab"}),
        ('"a","b"\n"r1",1,2\n"r2",3,4\n"r3",5,6\n', {"row_name": "r1", "a": 1, "b": 2}),
    ],
)
def test_the_first_row_of(read, write, content, row):
    found = read(Delimited(), write("a.csv", content))
    assert found.error is None
    assert found.rows[0] == row


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16", "naïve, καλημέρα"),
        ("utf-8-sig", "naïve, καλημέρα"),
        ("cp1252", "Ein naïves Café – für Gäste, die gern “schöne Wörter” hören"),
        ("euc_jp", "これはテストです。日本語の文章を読みます。"),
        ("euc_kr", "한국어 문장을 읽는 시험입니다 그리고 더"),
        ("gb18030", "这是一个测试文件我们在这里写一些中文"),
    ],
)
def test_the_encoding_is_found(read, write, encoding, text):
    content = f'id,text\n1,"{text}"\n2,"{text}"\n'.encode(encoding)
    assert [row["text"] for row in read(Delimited(), write("a.csv", content)).rows] == [text, text]


def test_text_that_would_change_as_a_number_stays_text(read, write):
    rows = (
        "zip,big,mixed,flag,date,price\n"
        + "007,12345678901234567890,1,true,2020-01-01,1.5\n12,1,x,false,2020-01-02,2\n"
    )
    found = read(Delimited(), write("a.csv", rows))
    assert found.rows[0] == {
        "zip": "007", "big": "12345678901234567890", "mixed": "1", "flag": True, "date": "2020-01-01", "price": 1.5,
    }  # fmt: skip


def test_missing_is_null_in_a_column_of_numbers_and_only_there(read, write):
    found = read(Delimited(), write("a.csv", 'n,code,empty\n1,NA,\nNA,US,\n,x,""\n'))
    assert found.rows == [{"n": 1, "code": "NA"}, {"code": "US"}, {"code": "x", "empty": ""}]


def test_a_ragged_row_is_a_reject_with_its_line_and_shifts_nothing(read, write):
    found = read(Delimited(), write("a.csv", "a,b\n1,2\n3\n4,5,6\n\n" + "7,8\n" * 30 + "\n"))
    assert found.rows == [{"a": 1, "b": 2}, *[{"a": 7, "b": 8}] * 30]
    assert [(r.row, r.reason) for r in found.rejects] == [
        (1, "line 3: 1 fields, not 2"),
        (2, "line 4: 3 fields, not 2"),
        (3, "line 5: an empty line"),
    ]


def test_a_header_with_a_name_twice_is_refused(read, write):
    found = read(Delimited(), write("a.csv", "a,a\n1,2\n"))
    assert isinstance(found.error, SourceFormatError)


@pytest.mark.parametrize("line", ['"abc\n', 'x,"abc\n'])
def test_a_quote_that_is_never_closed_ends_with_its_line(read, write, line):
    found = read(Delimited(), write("a.csv", "a,b\n" + "x,1\n" * 3 + line + "x,1\n" * 500))
    assert isinstance(found.error, SourceDamagedError)
    assert "never closed" in str(found.error)


def test_a_row_over_the_limit_names_the_setting(read, write):
    found = read(Delimited(max_row_bytes=10_000), write("a.csv", 'a,b\n1,"' + "x" * 30_000 + '"\n'))
    assert isinstance(found.error, SourceTooLargeError)
    assert "max_row_bytes" in str(found.error)


def test_a_cut_stream_gives_its_whole_rows_and_then_the_error(read, write):
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%064d\n" % (n, n * n) for n in range(5000)))
    found = read(Delimited(), write("a.csv.gz", whole[: len(whole) // 2]))
    assert isinstance(found.error, SourceDamagedError)
    assert 100 < found.count < 5000
    assert [row["a"] for row in found.rows] == list(range(found.count))


def test_what_is_sniffed_can_be_overridden(read, write):
    found = read(Delimited(delimiter="~", header="no", encoding="latin-1"), write("a.csv", b"x~\xe9\ny~z\n"))
    assert found.rows == [{"column_0": "x", "column_1": "é"}, {"column_0": "y", "column_1": "z"}]


def test_prose_is_no_table(write, source):
    prose = write("a.txt", "It was the best of times, it was the worst of times,\nit was the age of wisdom,\n" * 9)
    table = write("b.txt", "a\tb\n" + "1\t2\n" * 9)
    (claim,) = csv_table.detect(source(prose, table))
    assert [f.name for f in claim.files] == ["b.txt"]


def test_comments_above_the_header_are_not_rows(read, write):
    text = "# exported in 2024\n# by someone, for others\nname,age,city\nAnn,3,Rome\nBob,4,Oslo\nCy,5,Paris\n"
    assert read(Delimited(), write("a.csv", text)).rows[0] == {"name": "Ann", "age": 3, "city": "Rome"}


def test_a_header_that_begins_with_a_hash_stays_the_header(read, write):
    text = "##made by a tool\n#chrom\tstart\tend\nchr1\t1\t2\nchr1\t5\t9\nchr2\t5\t9\n"
    assert read(Delimited(), write("a.tsv", text)).rows[0] == {"#chrom": "chr1", "start": 1, "end": 2}


def test_rows_that_begin_with_a_hash_stay_rows(read, write):
    found = read(Delimited(), write("a.csv", "tag,count\n#one,1\n#two,2\n#three,3\n"))
    assert [row["tag"] for row in found.rows] == ["#one", "#two", "#three"]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_first_line_may_state_the_delimiter(read, write, first):
    found = read(Delimited(), write("a.csv", f"{first}\r\nname;price\r\nAnn;3,5\r\nBob;4,5\r\n"))
    assert found.rows == [{"name": "Ann", "price": "3,5"}, {"name": "Bob", "price": "4,5"}]
