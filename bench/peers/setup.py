"""Makes an environment for each loader that the benches measure beside ours, from the pinned lists in this folder.

python bench/peers/setup.py --into DIR                 # all of them
python bench/peers/setup.py --into DIR grain litdata
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    known = sorted(path.stem for path in HERE.glob("*.txt"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="folder for the environments")
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(known)}")
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"{name} is none of {', '.join(known)}")
    failed = []
    for name in options.names or known:
        place = options.into / name
        venv.create(place, with_pip=True, clear=True)
        words = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(HERE / f"{name}.txt")]
        done = subprocess.run(words, check=False).returncode == 0
        print(f"{name}: {'ready' if done else 'could not be installed'}", flush=True)
        if not done:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
