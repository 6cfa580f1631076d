"""Mutation testing of the order modules, the recipe and the cursor: how many small faults in them the tests detect.

    python tests/order/mutants.py [--folder DIR] [--children 2] [NAME …]

Copies the checkout to DIR (default: a temporary folder), runs mutmut there with the settings of `pyproject.toml`, and
prints for each module how many faults there are and how many were killed. If DIR has an interrupted run, that run
continues. A NAME is a module such as `plan`, or a fault, which is tried again. Takes about an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "src/choline_data"
MODULES = tuple(
    f"order/{name}"
    for name in (
        "permute",
        "trees",
        "quotas",
        "interleave",
        "few_slots",
        "frequent_blocks",
        "phases",
        "plan",
        "runs",
        "lanes",
        "source",
        "recipe",
        "cursor",
    )
)


def copied(folder: Path) -> None:
    """Brings every file of the checkout that git knows or does not ignore into the folder, links as links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if not (source.exists() or source.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def names_of(asked: list[str]) -> list[str]:
    """What mutmut calls the modules and mutants that are asked for."""
    by_name = {module.rpartition("/")[2]: f"choline_data.{module.replace('/', '.')}.*" for module in MODULES}
    return [by_name.get(name, name) for name in asked]


def results(folder: Path, endless: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """The fate of every mutant, by module. A time-out of a mutant in `endless` counts as killed."""
    from mutmut.stats import status_by_exit_code

    found = {}
    for module in MODULES:
        kept = folder / "mutants" / PACKAGE / f"{module}.py.meta"
        if kept.exists():
            codes = json.loads(kept.read_text())["exit_code_by_key"]
            fates = {name: status_by_exit_code[code] for name, code in codes.items()}
            seen = {name: "killed" for name, fate in fates.items() if fate == "timeout" and name in endless}
            found[module] = fates | seen
    return found


def report(folder: Path, endless: Sequence[str]) -> float:
    """Prints the table and the mutants that were not killed. Returns the share that was killed, in percent."""
    total: Counter[str] = Counter()
    print(
        f"{'module':18} {'mutants':>8} {'killed':>8} {'timed out':>10} {'survived':>9} {'unchecked':>10} {'killed %':>9}"
    )
    lives = []
    for module, fates in results(folder, endless).items():
        told = Counter(fates.values())
        total += told
        print(line(module, told))
        lives += [f"{name}: {fate}" for name, fate in fates.items() if fate not in ("killed", "not checked")]
    print(line("all", total))
    print(*lives, sep="\n")
    return share(total)


def share(told: Counter[str]) -> float:
    """The share that was killed of those that were checked, in percent. A mutant that timed out may be a survivor."""
    checked = told.total() - told["not checked"]
    return 100 * told["killed"] / max(checked, 1)


def line(name: str, told: Counter[str]) -> str:
    """One line of the table; what is neither killed, timed out nor unchecked counts as survived."""
    lived = told.total() - told["killed"] - told["timeout"] - told["not checked"]
    counts = (told.total(), told["killed"], told["timeout"], lived, told["not checked"])
    return f"{name:18} {counts[0]:8} {counts[1]:8} {counts[2]:10} {counts[3]:9} {counts[4]:10} {share(told):8.1f}"


def main() -> int:
    """Runs mutmut and reports. The exit code is 1 if less than 95 % are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(m.rpartition('/')[2] for m in MODULES)}")
    parser.add_argument("--folder", type=Path, help="folder for the copy; an interrupted run continues there")
    parser.add_argument("--children", type=int, default=2, help="faults that are tried at once")
    parser.add_argument("--report", action="store_true", help="only print the result that the folder has")
    parser.add_argument(
        "--endless", nargs="*", default=[], metavar="MUTANT", help="timed out, and was seen to never end"
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mutants-"))
    if not options.report:
        folder.mkdir(parents=True, exist_ok=True)
        copied(folder)
        tried = [sys.executable, "-m", "mutmut", "run", "--max-children", str(options.children)]
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([*tried, *names_of(options.names)], cwd=folder, env=env, check=False, stdin=subprocess.DEVNULL)
        late = [name for fates in results(folder).values() for name, fate in fates.items() if fate == "timeout"]
        if late:  # once more: the machine may have been busy
            subprocess.run([*tried, *late], cwd=folder, env=env, check=False, stdin=subprocess.DEVNULL)
    return int(report(folder, options.endless) < 95)


if __name__ == "__main__":
    sys.exit(main())
