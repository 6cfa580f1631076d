"""Hugging Face's Trainer on packed rows. The map view has a length, random access and fast skipping on resume.

python examples/hf_trainer.py --home HOME --mix web=0.7,code=0.3 --output OUT
"""

from __future__ import annotations

import argparse

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from choline_data import FirehoseDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument("--output", required=True, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=10, help="number of steps")
    args = parser.parse_args()

    # format="hf" has input_ids, attention_mask and labels. The model shifts the labels itself.
    options = {"view": "tokens", "format": "hf", "seq_len": 64, "max_samples": args.steps * 8}
    rows = FirehoseDataset(args.mix, home=args.home, server=args.server, **options).as_map()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=512, n_positions=64, n_embd=32, n_layer=1, n_head=2))
    settings = TrainingArguments(
        output_dir=args.output,
        max_steps=args.steps,
        per_device_train_batch_size=8,
        logging_steps=5,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    result = Trainer(model, settings, train_dataset=rows).train()
    print(f"step {result.global_step}: loss {result.training_loss:.3f}")


if __name__ == "__main__":
    main()
