"""Files of variants, features, intervals and molecules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.genome_lines import GenomeLines
from choline_data.adapters.text_records.molecules import Molecules
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source

VCF = (
    '##fileformat=VCFv4.2\n##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
    "1\t100\trs1\tA\tG,T\t50\tPASS\tDP=10;DB\tGT:GQ\t0/1:30\nX\t200\t.\tAT\tA\t.\t.\t.\tGT:GQ\t1|1:9\n"
)
GFF = (
    "##gff-version 3\nchr1\thavana\tgene\t100\t200\t.\t+\t.\tID=g1;Name=x%20y\n"
    "chr1\thavana\tCDS\t100\t150\t.\t+\t0\tParent=g1\n##FASTA\n>chr1\nACGT\n"
)
GTF = 'chr1\thavana\texon\t100\t150\t0.5\t-\t.\tgene_id "g;1"; tag "a"; tag "b"; level 2;\n' * 2
BED = 'track name="x"\nchr1\t10\t20\tx\t0\t+\nchr2\t30\t40\ty\t5\t-\n'
MOLECULE = "\n  made up\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0    0.0    0.0 C   0  0\nM  END\n"
SDF = "".join(f"mol{n}{MOLECULE}> <ID>\n{n}\n\n>  <NOTE> (1)\nline 1\nline 2\n\n$$$$\n" for n in range(2))


def rows(path: Path) -> tuple[str, list[dict[str, Any]]]:
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    found = [row for shard in part.shards for c in part.adapter.read(shard) for row in c.batch.to_pylist()]
    return type(part.adapter).__name__, [{k: v for k, v in row.items() if v is not None} for row in found]


def test_variants(write: Callable[..., Path]) -> None:
    assert rows(write("a.vcf", VCF)) == (
        "GenomeLines",
        [
            {"chrom": "1", "pos": 100, "id": "rs1", "ref": "A", "alt": "G,T", "qual": 50.0, "filter": "PASS",
             "info": [("DP", "10"), ("DB", "true")], "format": "GT:GQ", "S1": "0/1:30"},
            {"chrom": "X", "pos": 200, "ref": "AT", "alt": "A", "info": [], "format": "GT:GQ", "S1": "1|1:9"},
        ],
    )  # fmt: skip


def test_features(write: Callable[..., Path]) -> None:
    gene = {"seqid": "chr1", "source": "havana", "type": "gene", "start": 100, "end": 200, "strand": "+"}
    name, found = rows(write("a.gff3", GFF))
    assert name == "GenomeLines"
    assert found[0] == gene | {"attributes": [("ID", "g1"), ("Name", "x y")]}
    assert found[1:] == [gene | {"type": "CDS", "end": 150, "phase": "0", "attributes": [("Parent", "g1")]}]
    attributes = [("gene_id", "g;1"), ("tag", "a,b"), ("level", "2")]
    assert [row["attributes"] for row in rows(write("b.gtf", GTF))[1]] == [attributes] * 2


def test_intervals(write: Callable[..., Path]) -> None:
    assert rows(write("a.bed", BED))[1] == [
        {"chrom": "chr1", "start": 10, "end": 20, "name": "x", "score": 0.0, "strand": "+"},
        {"chrom": "chr2", "start": 30, "end": 40, "name": "y", "score": 5.0, "strand": "-"},
    ]


def test_molecules(write: Callable[..., Path]) -> None:
    assert rows(write("a.sdf", SDF)) == (
        "Molecules",
        [
            {"name": f"mol{n}", "structure": f"mol{n}{MOLECULE}", "ID": str(n), "NOTE": "line 1\nline 2"}
            for n in range(2)
        ],
    )


def test_a_line_that_does_not_fit_is_rejected(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    found = read(GenomeLines(), write("a.vcf", VCF + "1\tx\t.\tA\tC\t.\t.\t.\tGT\t1\n1\t5\n"))
    assert found.count == 2
    assert [reject.row for reject in found.rejects] == [2, 3]


def test_a_cut_molecule_is_damage(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    found = read(Molecules(), write("a.sdf", SDF[: SDF.rindex("M  END")]))
    assert found.count == 1
    assert "ends within a molecule" in str(found.error)


class TestGenomeLines(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return GenomeLines()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        texts = {"a.vcf": VCF, "b.gff": GFF, "c.gtf": GTF, "d.bed": BED}
        return [source_file(write(name, text)) for name, text in texts.items()]


class TestMolecules(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Molecules()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write("a.sdf", SDF))]
