#!/bin/sh
# install.sh PYTHON LOCK [WHEEL]: installs a lock file of this folder, and then this checkout or a wheel of it, into the
# environment of PYTHON.
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
locked() { pip install --quiet --no-deps --require-hashes --only-binary :all: "$@"; }

locked -r "$here/$2.txt"
if [ "$2" = docs ]; then exit; fi  # the site needs only its tools, not this package
case $2 in dev | demo)
  # pip that checks hashes takes a build of PyPI, which needs gigabytes of CUDA, before a CPU build that lies in a folder.
  # So pip first chooses torch as it does without hashes, and the hash is checked when that file is installed.
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  pip download --quiet --no-deps --only-binary :all: --dest "$folder" "$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$here/torch.txt")"
  locked --no-index --find-links "$folder" -r "$here/torch.txt"
  if "$python" -c 'import sys, importlib.metadata as m; sys.exit(not any("cuda" in r for r in m.requires("torch") or []))'
  then locked -r "$here/cuda.txt"; fi
esac
if [ $# -gt 2 ]; then pip install --quiet --no-deps "$3"; else pip install --quiet --no-deps --no-build-isolation -e "$here/.."; fi
