"""FASTA and FASTQ records that are no records, and files that repeat each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from choline_data.adapters.text_records.fasta import Fasta
from choline_data.adapters.text_records.fastq import Fastq
from choline_data.catalog.add import prepare
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

GOOD = "@r1 x\nACGT\n+r1 x\nIIII\n@r2\nAC\nGT\n+\nII\n@I\n"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("@r3\nACGT\n+r4\nIIII\n", "its title is 'r3' at '@' and 'r4' at '+'"),
        ("@r3\nAC GT\n+\nII II\n", "its sequence has other characters than letters"),
        ("@r3\nACGT\n+\nII I\n", "its quality has a character outside of '!' to '~'"),
    ],
)
def test_a_read_that_contradicts_itself_is_a_reject(read, write, record, reason):
    found = read(Fastq(), write("a.fastq", GOOD + record))
    assert [row["sequence"] for row in found.rows] == ["ACGT", "ACGT"]
    assert [(r.row, r.reason) for r in found.rejects] == [(2, reason)]


def test_a_read_among_sequences_is_a_reject(read, write):
    found = read(Fasta(), write("a.fasta", ">s1\nACGT\nAC-*\n>s2\nACGT\n@r1\nACGT\n+\nIIII\n"))
    assert [row["sequence"] for row in found.rows] == ["ACGTAC-*"]
    assert [(r.row, r.reason) for r in found.rejects] == [
        (1, "its sequence has the character '@', which no sequence has")
    ]


def test_sequences_beside_reads_are_a_question(tmp_path: Path) -> None:
    folder = tmp_path / "reads"
    folder.mkdir()
    (folder / "genes.fasta").write_text(">s1\nACGTACGT\n>s2\nGGGGCCCC\n")
    (folder / "run.fastq").write_text("@r1\nACGTACGT\n+\nIIIIIIII\n@r2\nACGTACGA\n+\nIIIIIIII\n")
    with pytest.raises(ChoiceNeededError, match="have different columns"):
        prepare(Home(tmp_path / "home"), str(folder))


def test_a_sequence_in_a_second_file_with_other_lines_is_a_question(tmp_path: Path) -> None:
    folder = tmp_path / "genes"
    folder.mkdir()
    sequence = "ACGTTGCA" * 40
    (folder / "long.fasta").write_text(f">s1 a gene\n{sequence}\n")
    (folder / "wrapped.fasta").write_text(
        ">s1 a gene\n" + "".join(f"{sequence[n : n + 60]}\n" for n in range(0, 320, 60))
    )
    with pytest.raises(ChoiceNeededError, match="repeats rows of"):
        prepare(Home(tmp_path / "home"), str(folder))
