"""Measures the cost of reporting losses to a dataset, and of reading its statistics.

    python bench/feedback.py

Bounds, in processor time: a report of a step of 256 samples takes at most 1 ms (a hundredth of a step of 100 ms), and
`stats()` at most 15 ms (a thousandth of the 15 seconds between two scrapes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from choline_data import FirehoseDataset
from choline_data.catalog.add import ingest, prepare
from choline_data.places.home import Home

ROWS, STEP, STEPS = 256 * 64, 256, 50
REPORT_MS, STATS_MS = 1.0, 15.0


def home_with(sources: int, folder: Path) -> Home:
    """Returns a home with datasets of short texts."""
    home = Home(folder / "home")
    for number in range(sources):
        path = folder / f"source-{number}.jsonl"
        texts = (f"text {row} of source {number}" for row in range(ROWS // sources))
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        ingest(home, prepare(home, str(path), name=f"source-{number}"))
    return home


def median_ms(calls: list[Callable[[], object]]) -> float:
    """Returns the processor time of the median call, in milliseconds."""
    took = []
    for call in calls:
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return 1000 * statistics.median(took)


def costs(sources: int) -> dict[str, float]:
    """Returns the milliseconds that a report takes, and those that `stats()` takes."""
    with tempfile.TemporaryDirectory() as folder:
        home = home_with(sources, Path(folder))
        dataset = FirehoseDataset("*", home=home.location, batch_size=STEP)
        losses, report_ms = torch.rand(STEP), []
        for _, batch in zip(range(STEPS), dataset, strict=False):
            report_ms.append(median_ms([lambda ids=batch["id"]: dataset.report(ids, losses)]))
        return {
            f"report, {sources} sources, ms": statistics.median(report_ms),
            f"stats(), {sources} sources, ms": median_ms([dataset.stats] * STEPS),
        }


def main() -> int:
    """Prints the figures. Returns 1 if one is above its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, nargs="+", default=[3, 64], help="numbers of sources in the mix")
    figures = {name: ms for sources in parser.parse_args().sources for name, ms in costs(sources).items()}
    above = {name for name, ms in figures.items() if ms > (REPORT_MS if name.startswith("report") else STATS_MS)}
    for name, ms in figures.items():
        print(f"{name:28} {ms:8.3f}{'  above its bound' if name in above else ''}")
    return int(bool(above))


if __name__ == "__main__":
    sys.exit(main())
