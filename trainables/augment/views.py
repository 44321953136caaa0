"""How an augmented view differs from the clean data: what is replaced or changed, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import UdaConfig


@dataclass(frozen=True)
class TextView:
    """Words replaced by their nearest neighbour in ``vectors``: a text encoder's input embeddings, or a file.

    Attributes:
        share: of the words.
        vectors: a text encoder's name, or a path.
        is_file: ``vectors`` is a file of word2vec or GloVe text.
    """

    share: float
    vectors: str
    is_file: bool = False

    @classmethod
    def of(cls, uda: UdaConfig, *, encoder: str) -> TextView:
        """What ``uda`` asks for, where the text goes through ``encoder``."""
        return cls(uda.text_replace, uda.vectors or encoder, is_file=uda.vectors is not None)


@dataclass(frozen=True)
class ImageView:
    """RandAugment (Cubuk et al. 2020).

    Attributes:
        ops: operations an image.
        magnitude: 0 .. 30.
    """

    ops: int
    magnitude: int

    @classmethod
    def of(cls, uda: UdaConfig) -> ImageView:
        """What ``uda`` asks for."""
        return cls(uda.randaug_ops, uda.randaug_magnitude)
