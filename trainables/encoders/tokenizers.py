"""Tokenizers by an encoder's name, and what they and its positions allow."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.encoders.architectures import ARCHITECTURES
from trainables.encoders.weights import find_weights, load_config, load_errors, place_of


def load_tokenizer(name: str, *, texts: list[str]) -> Any:
    """The tokenizer of a text encoder; an architecture without weights gets a WordPiece vocabulary from ``texts``.

    Raises:
        ValueError: there is none.
    """
    if name in ARCHITECTURES:
        config = load_config(name)
        size = getattr(config, "text_config", config).vocab_size
        return _fast(_wordpiece(texts, size))
    from transformers import AutoTokenizer

    path = find_weights(name)
    with load_errors(f"tokenizer of '{name}'"):
        is_local = path is not None
        tokenizer = AutoTokenizer.from_pretrained(str(path or name), local_files_only=is_local, trust_remote_code=False)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes one up without files
        raise ValueError(f"tokenizer of '{name}' cannot be loaded: it has no vocabulary")
    return tokenizer


def wordpiece_tokenizer(text: str) -> Any:
    """The tokenizer of an architecture without weights, from its vocabulary as JSON (``backend_tokenizer.to_str()``).

    Raises:
        ValueError: it is none.
    """
    from tokenizers import Tokenizer

    try:
        return _fast(Tokenizer.from_str(text))
    except Exception as error:  # the library raises no class of its own
        raise ValueError(f"no tokenizer ({error})") from None


def _fast(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def special_ids(name: str) -> tuple[int, int]:
    """Ids of the tokens that open and close a text ([CLS] and [SEP] of BERT)."""
    return special_ids_at(name, place_of(name))


@lru_cache(maxsize=8)
def special_ids_at(name: str, place: Path | None) -> tuple[int, int]:
    """:func:`special_ids` of the encoder that lies at ``place``; kept for the process."""
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
