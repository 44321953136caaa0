"""Samples per second of mmtune's training loop against the plain one, the same model and steps on both sides.

mmtune: data prepared once (tokens, resized images), memory-mapped, batches bucketed by length and padded to their
longest text. ``cache_features`` is off, so every encoder really runs and trains. Plain (``plain.py``):
each sample of each epoch decoded, tokenised, padded to ``max_length``; once with 512, once
with the longest text of the data set, which is the best a fixed length can be.

Both train from the same initial weights with AdamW (the plain side with torch's defaults), a constant learning rate,
the same batch size and threads, in float32. Timed are training epochs alone, the first is left out. mmtune's one-time
preparation is printed by itself.

The last epoch's training loss and the loss on the same validation batches tell whether both sides did the same work.
Bucketing changes which samples share a batch, so mmtune is also run with plain random batches: that is exactly the
plain side's work. A side whose training loss is off by more than 15 % is marked. The ratio is the smallest over the
models and both orders, against max_length 512.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import print_setting, scratch_folder

if TYPE_CHECKING:
    from trainables.state import State

_SEED_LENGTH = 512
_ALIKE = 0.15  # relative difference of training losses; over seeds they scatter by about 0.06
_CASES: dict[str, dict[str, Any]] = {
    "tiny fusion": {
        "family": "fusion", "model.text_encoder": "tiny-bert", "model.image_encoder": "tiny-cnn",
        "model.lock_text": False, "model.lock_image": False, "image_size": 64, "optim.lr": 1e-3,
    },
    "MiniLM text": {"family": "text", "model.lock_text": False, "optim.lr": 2e-5},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/loop.py --epochs 3 --threads 2",
    )
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the tiny model; the first is not timed")
    parser.add_argument("--rows", type=int, default=1024, help="training rows of the tiny model")
    parser.add_argument("--large-epochs", type=int, default=3, help="epochs of MiniLM")
    parser.add_argument("--large-rows", type=int, default=64, help="training rows of MiniLM")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides")
    parser.add_argument("--loader-workers", type=int, default=0, help="DataLoader processes of the plain side")
    args = parser.parse_args()
    if min(args.epochs, args.large_epochs) < 2:
        parser.error("--epochs and --large-epochs: at least 2, the first is not timed")

    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(args.threads)
    print_setting()
    print(f"threads  {args.threads}, batch size {args.batch_size}, plain DataLoader workers {args.loader_workers}")
    ratios = []
    with scratch_folder() as folder:
        for name, params in _CASES.items():
            is_tiny = name.startswith("tiny")
            size = {"max_train_rows": args.rows if is_tiny else args.large_rows,
                    "epochs": args.epochs if is_tiny else args.large_epochs}  # fmt: skip
            ratios.append(compare(name, {**params, **size}, args, folder / name.replace(" ", "-")))
    print(f"ratio: {min(ratios):.1f}")


def compare(name: str, params: dict[str, Any], args: argparse.Namespace, folder: Path) -> float:
    """Measures and prints one model; mmtune over plain with the seed's padding, the lesser of both orders."""
    from trainables.config import TrialConfig
    from trainables.data.cache.tokens import prepare_tokens
    from trainables.data.reading.dataset import DatasetRef
    from trainables.evaluate import evaluate
    from trainables.families import family_module

    config = TrialConfig.from_params({
        "dataset": "openclipart", "batch_size": args.batch_size, "precision": "fp32", "max_text_len": _SEED_LENGTH,
        "cache_features": False, "optim.schedule": "constant", "optim.warmup_ratio": 0.0, "optim.grad_clip": None,
        "model.dropout": 0.0, **params,
    })  # fmt: skip
    print(f"\n{name}: {config.max_train_rows} rows, {config.epochs} epochs, {family_module(config.family).__name__}")
    encoder = config.model.text_encoder
    plain: dict[int, tuple[float, float]] = {}
    shipped, prepare_seconds, state = run_ours(config, folder / "shipped")
    shipped_val = evaluate(state, "val").loss
    random, _, state = run_ours(config, folder / "random", is_bucketed=False)
    random_val = evaluate(state, "val").loss
    longest = int(prepare_tokens(DatasetRef.of(config), encoder=encoder).length(_SEED_LENGTH).max())
    vals = {}
    for length in (longest, _SEED_LENGTH):
        plain[length], weights = run_plain(config, max_length=length, workers=args.loader_workers)
        state.model.load_state_dict(weights)  # one yardstick for both
        vals[length] = evaluate(state, "val").loss
    target = plain[_SEED_LENGTH][1]
    _print_side("mmtune", shipped, shipped_val, target)
    _print_side("mmtune, random batches", random, random_val, target)
    for length, speed in plain.items():
        _print_side(f"plain, padded to {length}", speed, vals[length], target)
    print(f"  mmtune's preparation, once a data set: {prepare_seconds:.2f} s")
    for side, speed in {"mmtune": shipped, "mmtune, random batches": random}.items():
        ratios = ", ".join(f"{speed[0] / other[0]:.1f} (padded to {length})" for length, other in plain.items())
        print(f"  {side} / plain: {ratios}", flush=True)
    return min(shipped[0], random[0]) / plain[_SEED_LENGTH][0]


def _print_side(side: str, speed: tuple[float, float], val_loss: float, target: float) -> None:
    mark = "" if abs(speed[1] / target - 1) <= _ALIKE else "   TRAINS DIFFERENTLY"
    print(f"  {side:<24} {speed[0]:9.1f} samples/s   train loss {speed[1]:.4f}   val loss {val_loss:.4f}{mark}")


def run_ours(config: Any, folder: Path, *, is_bucketed: bool = True) -> tuple[tuple[float, float], float, State]:
    """(samples per second, last epoch's loss), seconds of preparation, and the trained trial."""
    from trainables.data.open import open_data
    from trainables.loop import setup, train_epoch
    from trainables.ranks import Ranks, best_device

    began = time.perf_counter()
    open_data(config)
    prepare_seconds = time.perf_counter() - began
    state = setup(config, folder=folder, ranks=Ranks(device=best_device()))
    if not is_bucketed:
        state.data = replace(state.data, lengths=None)
    seconds, loss, num_rows = [], 0.0, len(state.data.rows["train"])
    for epoch in range(1, config.epochs + 1):  # what fit does, without evaluation and checkpoints
        began = time.perf_counter()
        trained = train_epoch(state, epoch)
        seconds.append(time.perf_counter() - began)
        loss = trained.terms["train_loss"]
    return (num_rows * (config.epochs - 1) / sum(seconds[1:]), loss), prepare_seconds, state


def run_plain(config: Any, *, max_length: int, workers: int) -> tuple[tuple[float, float], dict[str, Any]]:
    """(samples per second, last epoch's loss), and the trained weights."""
    import torch
    from plain import PlainDataset, plain_model, train_epoch
    from torch.utils.data import DataLoader

    from trainables.ranks import best_device

    data = PlainDataset(config, split="train", max_length=max_length)
    model = plain_model(config, data.task).to(best_device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    loader = DataLoader(
        data, batch_size=config.batch_size, shuffle=True, generator=generator, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    seconds, loss = [], 0.0
    for _ in range(config.epochs):
        began = time.perf_counter()
        loss = train_epoch(model, loader, optimizer)
        seconds.append(time.perf_counter() - began)
    return (len(data) * (config.epochs - 1) / sum(seconds[1:]), loss), model.state_dict()


if __name__ == "__main__":
    main()
