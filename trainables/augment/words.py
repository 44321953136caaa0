"""Augmented texts for UDA: words replaced by their nearest neighbour (docs/methods.md#augmentation).

After Monter-Aldana et al. 2023: a share of the words gives way to the closest word by cosine in an embedding, at
word level, before the tokenizer. Neighbours include antonyms and siblings (good -> bad), as with the paper's
Word2Vec. A copy is a function of a seed and of the text, so a static one (the paper's) and a fresh one each epoch
are a matter of the seed.

Letters: V words, D features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainables.files import write_atomic
from trainables.seeds import derive_seed

# A word with what belongs to it: "don't", "mp3" and accents written as combining marks stay whole, and as they
# are not alphabetic nothing replaces them or half of them.
_WORD = re.compile(r"[\w\u0300-\u036f]+(?:['’][\w\u0300-\u036f]+)*")
CHUNK = 512  # rows of similarities at a time: 45 MB at 22,000 words


@dataclass(frozen=True)
class WordNeighbours:
    """The nearest other word of each word that has one.

    Attributes:
        nearest: word to word; alphabetic words only.
    """

    nearest: dict[str, str]

    @classmethod
    def from_vectors(cls, words: Sequence[str], vectors_VD: np.ndarray[Any, Any]) -> WordNeighbours:
        """Exact nearest neighbours by cosine, other than the word itself and its case variants.

        Words that are not alphabetic or whose vector is zero take no part.

        Args:
            words: V different words.
            vectors_VD: their vectors, (V, D).

        Raises:
            ValueError: a word twice, as many words as vectors not given, or a vector that is not finite.
        """
        if len(words) != len(vectors_VD):
            raise ValueError(f"word vectors: {len(words)} words, but {len(vectors_VD)} vectors")
        if len(set(words)) < len(words):
            raise ValueError(f"word vectors: {len(words) - len(set(words))} words occur twice")
        vectors_VD = np.asarray(vectors_VD, dtype=np.float32)
        norms = np.linalg.norm(vectors_VD, axis=1)
        if not np.isfinite(norms).all():
            raise ValueError(f"word vectors: '{words[int((~np.isfinite(norms)).argmax())]}' has one that is not finite")
        kept = [row for row, word in enumerate(words) if word.isalpha() and norms[row] > 0]
        return cls(_nearest([words[row] for row in kept], vectors_VD[kept] / norms[kept, None]))

    @classmethod
    def from_text_encoder(cls, tokenizer: Any, embedding_matrix: Tensor | np.ndarray[Any, Any]) -> WordNeighbours:
        """Neighbours in a text encoder's own input embeddings: no other download.

        Only tokens that are a whole, alphabetic, lower-case word of two letters or more.

        Args:
            tokenizer: a Hugging Face tokenizer: WordPiece, byte-level or CLIP BPE, or unigram.
            embedding_matrix: (vocabulary, D), row i belongs to token i.

        Raises:
            ValueError: the vocabulary has such words beyond the matrix, or none at all.
        """
        if isinstance(embedding_matrix, Tensor):
            embedding_matrix = embedding_matrix.detach().float().cpu().numpy()
        rows: dict[str, int] = {}
        for word, row in sorted(_whole_words(tokenizer), key=lambda pair: pair[1]):
            rows.setdefault(word, row)
        if not rows:
            raise ValueError("text encoder: its vocabulary has no whole, alphabetic, lower-case words")
        if max(rows.values()) >= len(embedding_matrix):
            raise ValueError(
                f"text encoder: token {max(rows.values())} has no row in {len(embedding_matrix)} embeddings"
            )
        return cls.from_vectors(list(rows), embedding_matrix[list(rows.values())])

    @classmethod
    def from_vectors_file(cls, path: str | Path, *, max_words: int = 50_000) -> WordNeighbours:
        """Neighbours from a text file of word2vec (with its header line) or GloVe (without).

        Args:
            path: one word a line, then its numbers, separated by blanks; UTF-8.
            max_words: only the first so many alphabetic words, which are the most frequent in both formats:
                the cost grows with the square. Lines behind them are not read.

        Raises:
            ValueError: a malformed line, named with the file; or no alphabetic word in the file.
        """
        vectors: dict[str, np.ndarray[Any, Any]] = {}
        dim = None
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    parts = line.decode().strip(" \t\r\n").replace("\t", " ").split(" ")
                    if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                        dim = int(parts[1])
                        continue
                    dim = len(parts) - 1 if dim is None else dim
                    word, vector = _word_and_vector(parts, dim)
                except ValueError as error:
                    raise ValueError(f"{path} (line {number}): {error}") from None
                if word.isalpha():
                    vectors.setdefault(word, vector)
                if len(vectors) == max_words:
                    break
        if not vectors:
            raise ValueError(f"{path}: no alphabetic words with vectors in it")
        return cls.from_vectors(list(vectors), np.stack(list(vectors.values())))

    @classmethod
    def load(cls, path: str | Path) -> WordNeighbours:
        """What :meth:`save` wrote.

        Raises:
            ValueError: the file is not a JSON object of words.
        """
        try:
            nearest = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
        if not isinstance(nearest, dict) or not all(isinstance(word, str) for word in nearest.values()):
            raise ValueError(f"{path}: not a JSON object of word to word")
        return cls(nearest)

    def save(self, path: str | Path) -> None:
        """Writes a JSON object of word to word, whole or not at all."""
        write_atomic(path, json.dumps(self.nearest, ensure_ascii=False))

    def replace(self, text: str, *, share: float, seed: int) -> str:
        """``text`` with some words replaced by their nearest word.

        Eligible are the alphabetic words that have a neighbour, as they stand or in lower case. Of n of them
        exactly max(1, round(share n)) are replaced, drawn without replacement; with none, nothing changes.
        Spacing and punctuation stay, and a new word's first letter has the case of the old one's.

        Args:
            text: any text.
            share: of the eligible words, in (0, 1].
            seed: the same seed and text give the same result.

        Raises:
            ValueError: ``share`` is out of range.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share: {share} is not in (0, 1]")
        eligible = [
            (match, neighbour) for match in _WORD.finditer(text) if (neighbour := self._neighbour(match[0])) is not None
        ]
        if not eligible:
            return text
        generator = np.random.default_rng(derive_seed(seed, text))
        count = max(1, round(share * len(eligible)))
        chosen = sorted(generator.choice(len(eligible), size=count, replace=False))
        pieces, end = [], 0
        for match, neighbour in (eligible[index] for index in chosen):
            first = neighbour[0].upper() if match[0][0].isupper() else neighbour[0].lower()
            pieces += [text[end : match.start()], first, neighbour[1:]]
            end = match.end()
        return "".join([*pieces, text[end:]])

    def _neighbour(self, word: str) -> str | None:
        return self.nearest.get(word, self.nearest.get(word.lower())) if word.isalpha() else None


def _nearest(words: list[str], unit_VD: np.ndarray[Any, Any]) -> dict[str, str]:
    variants: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        variants.setdefault(word.lower(), []).append(row)
    nearest: dict[str, str] = {}
    for start in range(0, len(words), CHUNK):
        similarity = unit_VD[start : start + CHUNK] @ unit_VD.T
        for row, word in enumerate(words[start : start + CHUNK]):
            similarity[row, variants[word.lower()]] = -np.inf
        best = similarity.argmax(axis=1)
        found = similarity[np.arange(len(best)), best] > -np.inf  # not where every word is a case variant
        nearest |= {words[start + row]: words[best[row]] for row in np.flatnonzero(found)}
    return nearest


def _whole_words(tokenizer: Any) -> list[tuple[str, int]]:
    """(word, token number) of the tokens that are a whole, alphabetic, lower-case word."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens)
    tokens = [(token, row) for token, row in vocabulary.items() if token not in special]
    # WordPiece marks the inside of words, CLIP their end, the others their start; any vocabulary may also hold
    # a few tokens that only look like another's marks ("####"), so the most frequent mark decides.
    inside = [(token, row) for token, row in tokens if token.startswith("##")]
    ends = [(token, row) for token, row in tokens if token.endswith("</w>")]
    starts = [(token, row) for token, row in tokens if token.startswith(("Ġ", "▁"))]
    words = max(ends, starts, key=len)
    if len(inside) >= len(words):
        words = [(token, row) for token, row in tokens if not token.startswith("##")]
    spelt = [(tokenizer.convert_tokens_to_string([token]).strip(), row) for token, row in words]  # undoes byte coding
    return [(word, row) for word, row in spelt if len(word) > 1 and word.isalpha() and word.islower()]


def _word_and_vector(parts: list[str], dim: int) -> tuple[str, np.ndarray[Any, Any]]:
    """One line of a vectors file; GloVe has a few entries with blanks in them, such as '. . .'."""
    if dim < 1 or len(parts) <= dim:
        raise ValueError(f"a word and {max(dim, 1)} numbers expected, got {len(parts)} fields")
    word = " ".join(parts[:-dim])
    vector = np.array(parts[-dim:], dtype=np.float32)
    if any(_is_number(part) for part in parts[1:-dim]):
        raise ValueError(f"a word and {dim} numbers expected, got more numbers")
    if not np.isfinite(vector).all():
        raise ValueError("a number is not finite")
    return word, vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
