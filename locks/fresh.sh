#!/bin/sh
# fresh.sh [TARGET...]: runs make targets as a new user would: in a clone of HEAD, with an empty HOME and empty caches, under `env -i`.
# pip needs what says where packages come from: its own settings, and those of proxies and certificates, are passed on.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- demo test resolve wheel newest-slice oldest-slice slice-newest slice-oldest
python=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.realpath(sys.executable))')
mkdir "$work/home" "$work/tmp"
# The settings of pip that lie in this user's home, as the variables that pip reads.
"$python" -m pip config list 2>/dev/null | sed -n "s/^global\.\([a-z-]*\)='\(.*\)'$/\1 \2/p" | while read -r name value; do
  echo "PIP_$(echo "$name" | tr a-z- A-Z_)=$value"
done > "$work/settings"
env | grep -E '^(PIP_|SSL_CERT|REQUESTS_CA|https?_proxy=|HTTPS?_PROXY=|no_proxy=|NO_PROXY=|OPENBLAS_|CHOLINE_TEST_DATA=)' >> "$work/settings" || true
git clone --quiet "$here" "$work/clone"
cd "$work/clone"
[ -d "$here/../shared/data" ] && data=$(cd "$here/../shared/data" && pwd) || data=
set -- "$@"
for target in "$@"; do
  began=$(date +%s)
  (
    set -- "HOME=$work/home" "TMPDIR=$work/tmp" "PATH=/usr/local/bin:/usr/bin:/bin" "LANG=C.UTF-8"
    [ -z "$data" ] || set -- "$@" "CHOLINE_TEST_DATA=$data"
    while IFS= read -r setting; do set -- "$@" "$setting"; done < "$work/settings"
    exec env -i "$@" make PYTHON="$python" "$target"
  )
  echo "fresh: make $target: $(($(date +%s) - began)) s"
done
