"""Lightning: its checkpoints contain the loader's state, so a resumed run continues with the next batch.

python examples/lightning_loop.py --home HOME --mix web --checkpoint CHECKPOINT.ckpt --steps 20
"""

from __future__ import annotations

import argparse
import os

import lightning
import torch
from torch import nn

from choline_data import FirehoseDataset


class Letters(lightning.LightningModule):
    """Predicts the next byte from the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(258, 258)

    def training_step(self, batch: dict, number: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.table(batch["x"]).flatten(0, 1), batch["y"].flatten(), ignore_index=-1)
        print(f"step {self.global_step + 1}: loss {loss.item():.3f}", flush=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument(
        "--checkpoint", required=True, help="file to write at the end; if it exists, the run continues from it"
    )
    parser.add_argument("--steps", type=int, default=20, help="number of steps")
    args = parser.parse_args()

    lightning.seed_everything(0, verbose=False)
    rows = FirehoseDataset(
        args.mix, home=args.home, server=args.server, view="tokens", format="nanogpt", seq_len=32, batch_size=4
    )
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_steps=args.steps, accelerator="cpu", devices=1, **quiet)
    # Pass the loader, not the dataset: Lightning saves the state of the object that it gets.
    # The loader finds the rank itself, and Lightning adds no sampler.
    trainer.fit(Letters(), rows.loader(), ckpt_path=args.checkpoint if os.path.exists(args.checkpoint) else None)
    trainer.save_checkpoint(args.checkpoint)


if __name__ == "__main__":
    main()
