"""The plain way to train one configuration, which the benchmarks compare with.

For every sample of every epoch: decode the image, tokenise the text and pad it to a fixed length, with the
Hugging Face tokenizer and image processor; then shuffle, zero_grad, forward, backward, step. Locked encoders run
in every forward. The model is the one mmtune builds, with the same initial weights: only the way to it differs.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainables.batch import Batch
from trainables.config import TrialConfig
from trainables.data.formats import dataset_module
from trainables.data.reading.tabular import Tabular
from trainables.encoders.tokenizers import load_tokenizer
from trainables.families import family_inputs, family_module
from trainables.model import load_port
from trainables.seeds import derive_seed


class PlainDataset(Dataset):
    """One split; each sample is decoded, tokenised and padded when it is asked for.

    Args:
        config: dataset, image size, and how many training rows.
        split: 'train' or 'val'.
        max_length: tokens that every text is padded or cut to.
    """

    def __init__(self, config: TrialConfig, *, split: str, max_length: int) -> None:
        from transformers import ViTImageProcessor

        table = dataset_module(config.dataset).read(config.data_dir)
        target = next(iter(table.targets.values()))
        rows = np.flatnonzero(table.split == split)
        if split == "train" and config.max_train_rows is not None:  # the rows mmtune takes
            rows = np.sort(np.random.default_rng(0).permutation(rows)[: config.max_train_rows])
        self.task, self.max_length = target.task, max_length
        self.texts = [table.texts[row] for row in rows]
        self.images = [table.images[row] for row in rows]
        self.labels = torch.from_numpy(target.labels[rows])
        inputs = family_inputs(config)
        self.tokenizer: Any = None
        if "text" in inputs:
            train_texts = [table.texts[row] for row in np.flatnonzero(table.split == "train")]
            self.tokenizer = load_tokenizer(inputs["text"].encoder, texts=train_texts)
        self.processor: Any = None
        if "image" in inputs:  # mmtune's encoders normalise by themselves, so this need not
            size = {"height": config.image_size, "width": config.image_size}
            self.processor = ViTImageProcessor(size=size, resample=3, do_rescale=False, do_normalize=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {"labels": self.labels[index]}
        if self.tokenizer is not None:
            encoded = self.tokenizer(
                self.texts[index], max_length=self.max_length, truncation=True, padding="max_length",
                return_tensors="pt",
            )  # fmt: skip
            sample |= {name: encoded[name][0] for name in ("input_ids", "attention_mask")}
        if self.processor is not None:
            image = Image.open(io.BytesIO(self.images[index])).convert("RGB")
            sample["pixel_values"] = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return sample


def plain_model(config: TrialConfig, task: Any) -> nn.Module:
    """The family's model with its encoders inside, initialised as mmtune does."""
    torch.manual_seed(derive_seed(config.seed, "init"))
    ports = {
        modality: load_port(modality, entry, tabular=Tabular(), dataset=config.dataset)
        for modality, entry in family_inputs(config).items()
    }
    return family_module(config.family).build(config.model, task, ports)


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    *,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    grad_clip: float | None = None,
) -> float:
    """One epoch; the mean loss a sample."""
    device = next(model.parameters()).device
    model.train()
    total = num_rows = 0
    for tensors in loader:
        batch = Batch(**tensors, ids=[]).to(device)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch).logits, batch.labels)
        loss.backward()
        if grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        total += loss.item() * batch.size
        num_rows += batch.size
    return total / num_rows


@torch.inference_mode()
def accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Share of the loader's samples whose top class is right."""
    device = next(model.parameters()).device
    model.eval()
    num_right = num_rows = 0
    for tensors in loader:
        batch = Batch(**tensors, ids=[]).to(device)
        num_right += int((model(batch).logits.argmax(dim=1) == batch.labels).sum())
        num_rows += batch.size
    return num_right / num_rows
