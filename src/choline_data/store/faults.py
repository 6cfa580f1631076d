"""The list of faults of a home: one for each damaged or missing file, with a remedy."""

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
    "catalog", "copy", "hint", "manifest", "rejects", "files", "data", "index", "source", "selection", "ids", "tokens", "packing",
    "tokenizer", "job", "unused",
]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A file that is missing or damaged."""

    kind: Kind
    file: str
    what: str
    remedy: str
    dataset: str = ""  # "" if the file belongs to no dataset in the catalog
    revision: str = ""

    def __str__(self) -> str:
        whose = f"{self.dataset}: " if self.dataset else ""
        return f"{whose}{self.file} {self.what}."

    def as_json(self) -> dict[str, Any]:
        """Returns the fault as `--json` prints it."""
        return {"ok": False, **vars(self)}


@dataclass
class Report:
    """The result of a check of a home: faults, notes and the datasets that were read."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # remarks that are not faults
    datasets: list[dict[str, Any]] = field(default_factory=list)  # for each dataset, what the check read

    def add(self, kind: Kind, file: str, what: str, *, dataset: str = "", revision: str = "", remedy: str = "") -> None:
        """Adds a fault. The default remedy is `choline-data repair`."""
        remedy = remedy or f"Run `choline-data repair{' ' + dataset if dataset else ''}`."
        self.faults.append(Fault(kind, file, what, remedy, dataset, revision))


@contextmanager
def naming(dataset: str) -> Iterator[None]:
    """Context manager: adds the dataset's name to the message and the remedy of every DamagedStoreError."""
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
