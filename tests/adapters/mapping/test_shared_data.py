"""Real files, read row by row here, get their kind and lose no row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from choline_data.adapters.base import Shard, chunk_of
from choline_data.adapters.mapping import forms, infer, unsure

FILES = [
    ("gsm8k/test.jsonl", "", "chat", 1319),
    ("mbpp/mbpp.jsonl", "", "text", 974),
    ("bbh/snarks.json", "examples", "chat", 178),
    ("self_instruct/seed_tasks.jsonl", "", "chat", 175),
    ("sharegpt_fastchat/dummy_conversation.json", "", "chat", 500),
    ("mt_bench/question.jsonl", "", "chat", 80),
    ("mt_bench/reference_answer/gpt-4.jsonl", "", "chat", 30),
    ("glaive_toolcall/glaive_toolcall_en_demo.json", "", "chat", 300),
    ("preference/dpo_en_demo.json", "", "preference", 300),
    ("preference/kto_en_demo.json", "", "preference", 300),
    ("oasst_sample/en_100_tree.jsonl", "", "chat", 100),
    ("oasst_sample/en_100_message.jsonl", "", "chat", 100),
    ("openai_messages/toy_chat_fine_tuning.jsonl", "", "chat", 10),
    ("tau_bench/gpt-4o-airline.json", "", "chat", 200),
    ("mlx_prompt_completion/valid.jsonl", "", "chat", 144),
    ("coco_results/captions_val2014_fakecap_results.json", "", "annotation", 1000),
    ("coco_results/instances_val2014_fakebbox100_results.json", "", "annotation", 734),
    ("vega/penguins.json", "", "tabular", 344),
    ("vega/earthquakes.json", "features", "tabular", 1707),
    ("corpora_cc0/proverbs.json", "proverbs", "tabular", 14),
    ("corpora_cc0/shakespeare_sonnets.json", "sonnets", "tabular", 154),
]


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Columns of text and numbers as they are, everything else as JSON text, which is how records come."""
    arrays, fields = [], []
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        if all(v is None or isinstance(v, str) for v in values):
            array, about = pa.array(values, pa.large_string()), None
        else:
            cells = [None if v is None else orjson.dumps(v).decode() for v in values]
            array, about = pa.array(cells, pa.large_string()), {b"json": b"1"}
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=about))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


@pytest.mark.parametrize(("file", "key", "kind", "count"), FILES, ids=[f[0] for f in FILES])
def test_a_real_file_gets_its_kind_and_every_row_becomes_a_sample(
    shared_data: Path, file: str, key: str, kind: str, count: int
) -> None:
    content = (shared_data / file).read_text(encoding="utf-8")
    if file.endswith("l"):
        rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    else:
        rows = json.loads(content)[key] if key else json.loads(content)
    batch = batch_of(rows)
    found = infer([batch.slice(0, 64)])
    assert found[0].mapping.kind == kind, found[0]
    assert not unsure(found)
    made = forms.apply(found[0].mapping, chunk_of(batch, 0), Shard(file, file))
    made.batch.validate(full=True)
    assert made.batch.num_rows == count
