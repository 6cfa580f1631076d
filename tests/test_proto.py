"""The generated code is what the .proto files generate, and they keep the rules of buf.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
GENERATED = ("_pb2.py", "_pb2_grpc.py", "_pb2.pyi", "_pb2_grpc.pyi")


def test_the_generated_code_is_what_the_proto_files_generate(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="install grpcio-tools to generate the code again")
    if not (BIN / "protoc-gen-mypy_grpc").exists():
        pytest.skip("install mypy-protobuf to generate the stubs again")
    sources = sorted((ROOT / "proto").rglob("*.proto"))
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    made = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *outs, *map(str, sources)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    assert made.returncode == 0, made.stderr
    generated = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.py*")}
    committed = [p for end in GENERATED for p in (ROOT / "proto").rglob(f"*{end}")]
    assert sorted(generated) == sorted(p.relative_to(ROOT / "proto") for p in committed)
    stale = [str(name) for name, text in generated.items() if (ROOT / "proto" / name).read_text() != text]
    assert not stale, f"run `make proto`: {', '.join(stale)}"


def test_the_proto_files_keep_the_rules_of_buf(tmp_path: Path) -> None:
    if not (BIN / "buf").exists():
        pytest.skip("install buf-bin to lint the .proto files")
    done = subprocess.run(
        [str(BIN / "buf"), "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
