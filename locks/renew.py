"""Writes the lock files of this folder anew. `make lock` runs this, with uv in an environment of its own.

- `dev.txt`: what `make test`, `make lint` and CI install: every extra, and the development tools.
- `demo.txt`: what `make demo` installs, at the same versions.
- `torch.txt`: torch for both. The hashes are those of PyPI's builds and of the CPU build that pip prefers here.
- `cuda.txt`: the libraries that a CUDA build of torch needs. `install.sh` installs them only for such a build.
- `oldest.txt`: the oldest releases that pyproject.toml allows, with the tools of `dev.txt`. It is for Python 3.11.
- `oldest-slice.txt`: the part of `oldest.txt` that the fast slice needs: no extra, no torch.
- `docs.txt`: what `make docs` installs: the tools that build the site, and nothing of this package.

`python locks/renew.py docs` renews only `docs.txt`.

The files do not say from which index packages come. The hashes say which files are right, whatever index has them.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
# the exact version, because a looser requirement would find a CUDA build if an index has both builds
TORCH = "torch==2.13.0"
CUDA = re.compile(r"(nvidia|cuda|triton)\b")
EXTRAS = [f"--extra={extra}" for extra in ("all", "dask")]
DEMO = [f"--extra={extra}" for extra in ("webdataset", "torch", "tokenize", "image", "audio")]
EVERY_PYTHON = ["--universal", "--python-version=3.11", "--fork-strategy=fewest"]
OLDEST = ["--resolution=lowest-direct", "--python-version=3.11"]


def compiled(*options: str, constraints: list[str], package: bool = True) -> dict[str, list[str]]:
    """Returns the result of uv for pyproject.toml: the lines of each package, its hashes last. `package` includes the
    dependencies of this package.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints))
        file.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        command += ["--no-emit-index-url", "--generate-hashes", "--only-binary=:all:", f"--constraints={file.name}"]
        done = subprocess.run(
            [*command, *options, *(["pyproject.toml"] if package else [])],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return packages(done.stdout)


def packages(text: str) -> dict[str, list[str]]:
    """Returns the lines of a lock file by their package (its name, version and marker)."""
    lines_of: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(("#", "--")) or not line.strip():
            continue
        if not line.startswith(" "):
            lines_of[line.removesuffix("\\").strip()] = []
        else:
            lines_of[next(reversed(lines_of))].append(line.removesuffix("\\").strip())
    return lines_of


def torch_of_this_index(held: dict[str, list[str]], file: Path) -> dict[str, list[str]]:
    """Returns the entry of torch with the hashes of the file that pip finds here, and those that the lock file has for
    this release.
    """
    name = next(name for name in held if name.startswith("torch=="))
    before = packages(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}", name.split()[0]]
        subprocess.run(command, check=True)
        here = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in Path(folder).iterdir()]
    hashes = {*held[name], *before.get(name, []), *(f"--hash=sha256:{digest}" for digest in here)}
    return {name: sorted(hashes)}


def write(name: str, held: dict[str, list[str]]) -> None:
    """Writes a lock file."""
    lines = ["# From pyproject.toml, by `make lock`. See renew.py."]
    for package, hashes in held.items():
        lines.append(" \\\n    ".join([package, *hashes]))
    (HERE / name).write_text("\n".join(lines) + "\n")
    print(f"{name}: {len(held)} packages")


def direct(group: str) -> set[str]:
    """Returns the names of the packages that a group of pyproject.toml asks for, its included groups too."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    names: set[str] = set()
    for requirement in groups[group]:
        if isinstance(requirement, dict):
            names |= direct(requirement["include-group"])
        else:
            names.add(re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-"))
    return names


def main() -> None:
    """Renews each lock file, or only `docs.txt` if the command line says so."""
    write("docs.txt", compiled(*EVERY_PYTHON, "--group=docs", constraints=[], package=False))
    if sys.argv[1:] == ["docs"]:
        return
    dev = compiled(*EVERY_PYTHON, "--group=dev", *EXTRAS, constraints=[TORCH])
    torch = torch_of_this_index(dev, HERE / "torch.txt")
    cuda = {name: hashes for name, hashes in dev.items() if CUDA.match(name)}
    demo = compiled(*EVERY_PYTHON, "--group=demo", *DEMO, constraints=list(dev))
    tools = [name for name in dev if name.split("==")[0] in direct("dev")]
    oldest = compiled(*OLDEST, "--group=dev", *EXTRAS, constraints=tools)
    oldest_slice = compiled(*OLDEST, "--group=test", constraints=tools)

    apart = {*cuda, *torch}
    write("dev.txt", {name: hashes for name, hashes in dev.items() if name not in apart})
    write("demo.txt", {name: hashes for name, hashes in demo.items() if name not in torch and not CUDA.match(name)})
    write("torch.txt", torch)
    write("cuda.txt", cuda)
    write("oldest.txt", oldest)
    write("oldest-slice.txt", oldest_slice)


if __name__ == "__main__":
    main()
