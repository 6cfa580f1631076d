"""Hugging Face's Trainer on two ranks trains on each sample of a finite dataset exactly once, however Accelerate deals them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from choline_data.client import FirehoseDataset  # noqa: E402 - after the check for torch

ROWS, BATCH = 388, 4  # of `home`, without the two last of 390: 97 batches of 4 are no multiple of two ranks
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "each rank reads all": {"dispatch_batches": False},
    "split batches": {"split_batches": True},
    "each rank reads all, split batches": {"dispatch_batches": False, "split_batches": True},
    "uneven batches": {"dispatch_batches": False, "even_batches": False},
}


class Recorder(torch.nn.Module):
    """A model that learns nothing and records the positions that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.positions: list[int] = []

    def forward(self, position: torch.Tensor) -> dict[str, torch.Tensor]:
        self.positions += position.tolist()
        return {"loss": self.weight.sum() * 0}


def numbers(samples: list[Any]) -> dict[str, torch.Tensor]:
    return {"position": torch.tensor([sample["position"] for sample in samples])}


def train(rank: int, home: str, store: str, out: str) -> None:
    from transformers import Trainer, TrainingArguments

    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}
    os.environ.update({name: str(fact) for name, fact in facts.items()})
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    result = {}
    for way, config in WAYS.items():
        settings = TrainingArguments(
            out,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            use_cpu=True,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            ddp_backend="gloo",
            accelerator_config=config,
        )
        dataset = FirehoseDataset({"web": 5, "code": 3}, home=home, repeat=False, max_samples=ROWS)
        model = Recorder()
        trainer = Trainer(model, settings, train_dataset=dataset, data_collator=numbers)
        trainer.train()
        result[way] = [model.positions, trainer.state.global_step]
    (Path(out) / str(rank)).write_text(json.dumps(result))
    torch.distributed.barrier()
    # torch may deadlock here in an orderly exit: while the model's reducer is freed, it holds the GIL and waits for a thread of
    # gloo, and that thread waits for the GIL to free a tensor.
    os._exit(0)


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_trains_on_each_sample_once_on_two_ranks(home: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(train, (str(home), str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    results = [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)]
    for way in WAYS:
        (first, steps), (second, same) = (result[way] for result in results)
        assert steps == same, way
        assert set(first + second) == set(range(ROWS)), way
        assert len(first + second) - ROWS in (0, BATCH), way  # Accelerate repeats rows to fill the last step
