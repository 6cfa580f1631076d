#!/bin/sh
# try_wheel.sh PYTHON: builds the wheel with PYTHON (an environment from dev.txt), installs it into a new environment with the locked
# packages of demo.txt, and adds, serves and reads through FirehoseDataset from another folder.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
"$python" -m build --wheel --no-isolation --outdir "$work" "$here/.." > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/env"
"$here/install.sh" "$work/env/bin/python" demo "$work"/*.whl
cd "$work"
unset PYTHONPATH
"$work/env/bin/python" - "$here" <<'P'
import sys, choline_data
from importlib.resources import files
package = files("choline_data")
assert not str(package).startswith(sys.argv[1].rsplit("/", 1)[0]), package
assert len([c for c in (package / "catalog" / "cards").iterdir() if c.name.endswith(".yaml")]) > 120
assert (package / "py.typed").is_file() and (package / "v1" / "firehose.proto").is_file()
P
for n in 1 2 3 4 5 6 7 8; do echo "{\"text\": \"page $n\"}"; done > pages.jsonl
env/bin/choline-data add pages.jsonl --home home --name pages --yes --json
env/bin/choline-data serve --home home --port 0 --json > served.json &
server=$!
env/bin/python - <<'P'
import json, pathlib, time
until = time.monotonic() + 120
while not (said := pathlib.Path("served.json").read_text()).endswith("\n"):
    assert time.monotonic() < until, "the server did not start"
    time.sleep(0.05)
from choline_data import FirehoseDataset
address = json.loads(said.splitlines()[0])["address"]
texts = sorted(sample["text"] for sample in FirehoseDataset("pages", server=address, repeat=False))
assert texts == [f"page {n}" for n in range(1, 9)], texts
print("the wheel adds, serves and reads:", len(texts), "samples")
P
