"""What is wrong in a home: one fault a file, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from choline_data.errors import DamagedStoreError

IN_PLACE_REMEDY = (
    "Bring it back as it was, or take what it holds now: `choline-data add SOURCE --in-place --name NAME --replace`."
)

Kind = Literal[
    "catalog", "copy", "hint", "manifest", "rejects", "data", "index", "source", "selection", "ids", "tokens", "packing",
    "tokenizer", "job", "unused",
]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A file of the home that is missing or not as it was written."""

    kind: Kind
    file: str
    what: str
    remedy: str
    dataset: str = ""  # "" where no dataset of the catalog has it now
    revision: str = ""

    def __str__(self) -> str:
        whose = f"{self.dataset}: " if self.dataset else ""
        return f"{whose}{self.file} {self.what}."

    def as_json(self) -> dict[str, Any]:
        """The fault as `--json` prints it."""
        return {"ok": False, **vars(self)}


@dataclass
class Report:
    """What a check came to."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is no fault, and worth a word
    datasets: list[dict[str, Any]] = field(default_factory=list)  # for each dataset what was read

    def add(self, kind: Kind, file: str, what: str, *, dataset: str = "", revision: str = "", remedy: str = "") -> None:
        """Adds a fault; without a remedy of its own `repair` is the remedy."""
        remedy = remedy or f"Run `choline-data repair{' ' + dataset if dataset else ''}`."
        self.faults.append(Fault(kind, file, what, remedy, dataset, revision))


@contextmanager
def naming(dataset: str) -> Iterator[None]:
    """Puts the dataset's name into damage that the block finds, and into its remedy."""
    try:
        yield
    except DamagedStoreError as error:
        if error.metadata.get("dataset"):
            raise
        remedy = error.remedy.replace("`choline-data repair`", f"`choline-data repair {dataset}`")
        remedy = remedy.replace("--name NAME", f"--name {dataset}")
        raise DamagedStoreError(
            f"{dataset}: {error.message}", remedy=remedy, **{**error.metadata, "dataset": dataset}
        ) from error
