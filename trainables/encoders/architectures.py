"""Architectures without weights by name: ``tiny-*`` for tests, ``random-*`` at published sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


# Name -> what makes the Hugging Face config.
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
RESNETS = {  # torchvision's: kind of block, blocks a stage
    "tiny-resnet": ("BasicBlock", (1, 1, 1, 1)),
    "random-resnet-152": ("Bottleneck", (3, 8, 36, 3)),
}
IMAGE_ARCHITECTURES = ("tiny-cnn", *RESNETS)  # of no Hugging Face kind


def draws_weights(name: str) -> bool:
    """Whether the name is an architecture whose weights are drawn instead of read."""
    return name in ARCHITECTURES or name in IMAGE_ARCHITECTURES


def is_random(name: str) -> bool:
    """Whether the name is an architecture without weights, whose tokenizer is made from the dataset's texts."""
    return name in ARCHITECTURES
