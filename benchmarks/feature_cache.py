"""Seconds an epoch with cached features of locked encoders against running those encoders every time.

Same family, data, weights, batches and seed; ``cache_features`` on and off is all that differs. The encoders are the
real pretrained ones. ``lit_tirg`` trains its top layer over cached tokens (``joint_layers: 1``), ``hybrid_vae`` a VAE
and classifier over cached pooled features. Timed are training epochs with their validation, the first left out; what
filling the cache took is printed by itself. The validation logits of both sides are compared on the same weights.
The ratio is the smallest over the families.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from setting import print_setting, scratch_folder

_CASES: dict[str, dict[str, Any]] = {
    "lit_tirg": {"family": "lit_tirg", "model.joint_layers": 1, "model.num_image_tokens": 4, "model.pool_f": "mean"},
    "hybrid_vae": {"family": "hybrid_vae"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/feature_cache.py --rows 512 --image-size 224",
    )
    parser.add_argument("--epochs", type=int, default=3, help="the first is not timed")
    parser.add_argument("--rows", type=int, default=512, help="training rows")
    parser.add_argument("--image-size", type=int, default=224, help="pixels a side; 224 is EfficientNet's own")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs: at least 2, the first is not timed")

    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(args.threads)
    print_setting()
    print(f"threads  {args.threads}, {args.rows} training rows, {args.image_size} pixels, batch size {args.batch_size}")
    with scratch_folder() as folder:
        ratios = [compare(name, params, args, folder / name) for name, params in _CASES.items()]
    print(f"ratio: {min(ratios):.1f}")


def compare(name: str, params: dict[str, Any], args: argparse.Namespace, folder: Path) -> float:
    """Measures and prints one family; epoch time without the cache over epoch time with it."""
    from trainables.config import TrialConfig
    from trainables.data.requirements import requirements

    base = TrialConfig.from_params({
        "dataset": "openclipart", "batch_size": args.batch_size, "precision": "fp32", "max_text_len": 32,
        "image_size": args.image_size, "epochs": args.epochs, "max_train_rows": args.rows, "optim.lr": 5e-4, **params,
    })  # fmt: skip
    cached = base
    plain = base.model_copy(update={"cache_features": False})
    began = time.perf_counter()
    for need in requirements(cached):
        need.build()
    filling = time.perf_counter() - began
    for need in requirements(plain):
        need.build()
    seconds, losses, logits = {}, {}, {}
    for side, config in (("plain", plain), ("cached", cached)):
        seconds[side], losses[side] = run(config, folder / side)
    for side, config in (("plain", plain), ("cached", cached)):
        logits[side] = logits_of(config, folder / f"same-{side}")
    difference = np.abs(logits["plain"] - logits["cached"]).max()
    print(f"\n{name}: filling the cache took {filling:.1f} s, for all 3,290 rows")
    print(f"  encoders every time  {seconds['plain']:8.2f} s an epoch, training loss {losses['plain']:.4f}")
    print(f"  cached features      {seconds['cached']:8.2f} s an epoch, training loss {losses['cached']:.4f}")
    scale = np.abs(logits["plain"]).max()
    print(f"  logits differ by {difference:.1e} at most, of {scale:.2f} (float16 rounds at {scale * 2**-11:.1e})")
    print(f"  ratio {seconds['plain'] / seconds['cached']:.1f}", flush=True)
    return seconds["plain"] / seconds["cached"]


def run(config: Any, folder: Path) -> tuple[float, float]:
    """Median seconds of the epochs after the first, and the last one's training loss."""
    from trainables.loop import train

    rows = train(config, folder=folder).reports
    return float(np.median([row["train_seconds"] + row["eval_seconds"] for row in rows[1:]])), rows[-1]["train_loss"]


def logits_of(config: Any, folder: Path) -> np.ndarray:
    """Of the untrained model, which a seed makes the same on both sides."""
    from trainables.evaluate import evaluate
    from trainables.loop import setup
    from trainables.ranks import Ranks

    return evaluate(setup(config, folder=folder, ranks=Ranks()), "val").logits


if __name__ == "__main__":
    main()
