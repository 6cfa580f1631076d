"""Hugging Face's Trainer on packed rows: the map view gives it length, shuffled access and fast skipping on resume.

    python examples/hf_trainer.py --home HOME --mix web=0.7,code=0.3 --output OUT
"""

from __future__ import annotations

import argparse

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from choline_data import FirehoseDataset


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """The model shifts the labels itself, so both are the same tokens."""
    tokens = torch.stack([row["tokens"][:-1] for row in rows]).long()
    return {"input_ids": tokens, "labels": tokens.clone()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home")
    parser.add_argument("--server")
    parser.add_argument("--mix", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()

    rows = FirehoseDataset(
        args.mix, home=args.home, server=args.server, view="tokens", seq_len=64, max_samples=args.steps * 8
    ).as_map()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=512, n_positions=64, n_embd=32, n_layer=1, n_head=2))
    settings = TrainingArguments(
        output_dir=args.output,
        max_steps=args.steps,
        per_device_train_batch_size=8,
        logging_steps=5,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    result = Trainer(model, settings, train_dataset=rows, data_collator=collate).train()
    print(f"step {result.global_step}: loss {result.training_loss:.3f}")


if __name__ == "__main__":
    main()
