"""Measures how long pip alone takes to resolve the extras of the wheel: `make resolve`, or python locks/resolve.py all
torch.

Each extra is resolved with `--dry-run --ignore-installed`, as in an empty environment. An extra that takes more than
`--limit` seconds fails. `--python` resolves in an environment that has packages, and keeps them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Builds the wheel and resolves each extra."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras to resolve; all of them by default")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each extra")
    parser.add_argument("--python", default="", help="a Python whose installed packages are kept")
    options = parser.parse_args()
    if unknown := set(options.extras) - set(extras):
        parser.error(f"no such extra: {', '.join(sorted(unknown))}")
    keep = bool(options.python)
    python = options.python or sys.executable
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        wheel = next(Path(folder).glob("*.whl"))
        for extra in options.extras or [*extras, ""]:
            requirement = f"{wheel}[{extra}]" if extra else str(wheel)
            command = [
                python,
                "-m",
                "pip",
                "install",
                "--dry-run",
                *(() if keep else ("--ignore-installed",)),
                requirement,
            ]
            began = time.monotonic()
            try:
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10 * options.limit
                )
                output, code = done.stdout, done.returncode
            except subprocess.TimeoutExpired:
                output, code = "", 1
            took = time.monotonic() - began
            searched = len(re.findall(r"looking at multiple versions", output))
            good = not code and took <= options.limit
            print(
                f"{extra or 'none':12} {took:6.1f} s of {options.limit:.0f} s, {searched} searches  {'ok' if good else 'FAILED'}",
                flush=True,
            )
            if not good:
                failed.append(extra or "none")
                print("\n".join(output.splitlines()[-5:]), flush=True)
    if failed:
        raise SystemExit(f"does not resolve in time: {', '.join(failed)}")


if __name__ == "__main__":
    main()
