#!/bin/sh
# install.sh PYTHON LOCK: installs a lock file of this folder, and then this checkout, into the environment of PYTHON.
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
pip() { "$python" -m pip --disable-pip-version-check install --quiet --no-deps "$@"; }

pip --require-hashes --only-binary :all: -r "$here/$2.txt"
# A CPU build of torch needs no more. A CUDA build needs its libraries, which dev.txt and demo.txt leave out.
case $2 in dev | demo)
  if "$python" -c 'import sys, importlib.metadata as m; sys.exit(not any("nvidia" in r or "cuda" in r for r in m.requires("torch") or []))'
  then pip --require-hashes --only-binary :all: -r "$here/cuda.txt"; fi
esac
pip --no-build-isolation -e "$here/.."
