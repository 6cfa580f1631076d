import subprocess
import sys
from pathlib import Path


def test_an_add_of_documents_does_not_import_pandas(tmp_path: Path) -> None:
    source = tmp_path / "docs.jsonl"
    lines = [f'{{"text": "Document {n} is long enough to be read.", "date": "2024-01-02T03:04:05Z"}}' for n in range(9)]
    source.write_text("\n".join(lines) + "\n")
    code = "import sys; from choline_data.cli import main; main()"
    watched = f"import atexit, sys; atexit.register(lambda: print('pandas' in sys.modules, file=sys.stderr)); {code}"
    command = ["add", str(source), "--home", str(tmp_path / "home"), "--name", "docs", "--yes", "--json"]
    done = subprocess.run([sys.executable, "-c", watched, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "False"


def test_the_first_sample_of_a_stored_dataset_needs_no_late_imports(tmp_path: Path) -> None:
    source = tmp_path / "docs.jsonl"
    source.write_text("".join(f'{{"text": "Document {n} is long enough to be read."}}\n' for n in range(9)))
    home = str(tmp_path / "home")
    command = [sys.executable, "-m", "choline_data", "add", str(source), "--home", home, "--name", "docs", "--yes"]
    subprocess.run(command, check=True, capture_output=True)
    code = (
        "import sys; from choline_data import views; from choline_data.client.dataset import FirehoseDataset\n"
        "from choline_data.client.readers import embedded; import torch; before = set(sys.modules)\n"
        f"assert next(iter(FirehoseDataset('docs', home={home!r})))['text'].startswith('Document')\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
