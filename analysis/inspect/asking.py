"""One sample asked again and again: with gradients, or with parts of its picture or text away.

K variants of the sample, S pixels a side, h x w cells, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.inspect.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.batch import Batch
    from trainables.trained import Trained

_GREY = 128  # where a cell is away
_AT_ONCE = 32


@dataclass(frozen=True)
class Asked:
    """A sample and the output that is explained: the class that the model says, or a regression's number.

    Attributes:
        trained: the model.
        batch: the sample, raw.
        target: which of the outputs.
        score: the probability of the class; of a regression the z-score.
    """

    trained: Trained
    batch: Batch
    target: int
    score: float

    @property
    def name(self) -> str:
        """The class, or what the number is."""
        facts = self.trained.facts
        return facts.target if facts.task.kind == "regression" else facts.task.classes[self.target]

    def logits(self, batch: Batch) -> Tensor:
        """(K, C) of a batch of raw inputs, with gradients where they are on, in float32.

        The probe of ``mvae`` is cut off from its latent in training; here gradients go through.
        """
        out = self.trained.model(batch)
        model: Any = self.trained.model
        return model.probe(out.features["joint"]) if self.trained.config.family == "mvae" else out.logits

    def scores(self, batch: Batch) -> np.ndarray:
        """(K,) of the target in a batch."""
        import torch

        with torch.inference_mode():
            parts = [
                self.logits(batch.slice(at, min(at + _AT_ONCE, batch.size))) for at in range(0, batch.size, _AT_ONCE)
            ]
        return _target_scores(self.trained, torch.cat(parts), self.target)

    def without_cells(self, there_Kn: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """(K,) scores with some cells of the picture grey; n = h w cells in reading order."""
        import torch

        pixels = self.batch.pixel_values
        assert pixels is not None
        size = pixels.shape[-1]
        rows, columns = (np.arange(size) * cells // size for cells in shape)
        mask_KSS = there_Kn.reshape(-1, *shape)[:, rows][:, :, columns]
        mask = torch.from_numpy(mask_KSS).to(pixels.device).unsqueeze(1)
        grey = torch.full_like(pixels, _GREY)
        return self.scores(replace(repeated(self.batch, len(there_Kn)), pixel_values=torch.where(mask, pixels, grey)))

    def without_tokens(self, there_Kn: np.ndarray, places_n: np.ndarray) -> np.ndarray:
        """(K,) scores with some of the tokens at these positions replaced by :func:`blank_token`."""
        import torch

        ids = self.batch.input_ids
        assert ids is not None
        ids_KL = ids.expand(len(there_Kn), -1).clone()
        at = torch.from_numpy(places_n).to(ids.device)
        away = ~torch.from_numpy(there_Kn).to(ids.device)
        ids_KL[:, at] = torch.where(away, blank_token(self.trained.tokenizer), ids_KL[:, at])
        return self.scores(replace(repeated(self.batch, len(there_Kn)), input_ids=ids_KL))

    @property
    def words(self) -> tuple[np.ndarray, list[str]]:
        """Positions of the text's tokens without specials and padding, and the tokens."""
        ids, mask = self.batch.input_ids, self.batch.attention_mask
        assert ids is not None and mask is not None
        special = set(self.trained.tokenizer.all_special_ids)
        row = [int(id) for id in ids[0]]
        places = [at for at, id in enumerate(row) if mask[0, at] and id not in special]
        tokens = self.trained.tokenizer.convert_ids_to_tokens([row[at] for at in places])
        return np.array(places, np.int64), [token.removeprefix("Ġ").removesuffix("</w>") for token in tokens]


def ask(subject: Subject, at: int) -> Asked:
    """A row of the subject, and what the model says of it."""
    import torch

    trained, batch = subject.trained, subject.batch(at)
    with torch.inference_mode():
        logits_1C = trained.model(batch).logits
    target = int(logits_1C[0].argmax())
    return Asked(trained, batch, target, float(_target_scores(trained, logits_1C, target)[0]))


def repeated(batch: Batch, times: int) -> Batch:
    """A sample ``times`` times, as views."""
    given = {item.name: getattr(batch, item.name) for item in fields(batch)}
    values = {
        name: value.expand(times, *value.shape[1:])
        for name, value in given.items()
        if name != "ids" and value is not None
    }
    return replace(batch, **values, ids=list(batch.ids) * times)


def blank_token(tokenizer: Any) -> int:
    """The id of what stands for a token that is away: the mask token; where there is none, the unknown one."""
    known = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id, 0)
    return next(id for id in known if id is not None)


@contextmanager
def unlocked(trained: Trained) -> Iterator[None]:
    """Gradients go through locked encoders, which run without them else; nothing of them changes."""
    from trainables.encoders.port import Port

    ports = [module for module in trained.model.modules() if isinstance(module, Port)]
    before = [port.input for port in ports]
    try:
        for port in ports:
            port.input = replace(port.input, is_locked=False)
        yield
    finally:
        for port, input in zip(ports, before, strict=True):
            port.input = input
        trained.model.zero_grad(set_to_none=True)


def _target_scores(trained: Trained, logits_KC: Tensor, target: int) -> np.ndarray:
    logits = logits_KC.double()
    if trained.task.kind == "multiclass":
        logits = logits.softmax(dim=1)
    elif trained.task.kind == "multilabel":
        logits = logits.sigmoid()
    return logits[:, target].cpu().numpy()
