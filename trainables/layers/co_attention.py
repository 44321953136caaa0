"""Co-attention between a text and an image stream (ViLBERT, Lu et al. 2019; code jiasenlu/vilbert_beta;
docs/methods.md#co-attention).

Letters: B samples, L text tokens, R regions, D text width, V image width, H heads; of either stream N tokens of
width Q, of the other M tokens of width C.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CoAttention(nn.Module):
    """One connection: each stream reads the other by attention, then goes through a feed-forward layer of its own.

    Text' = LayerNorm(text + W softmax(Q_text K_image^T / sqrt(dim / H)) V_image), and the image stream likewise
    from the text as it came in. Each stream has its own Q, K and V, all of them of width ``dim``.

    Args:
        text_dim: D.
        image_dim: V.
        dim: width of queries, keys and values, a multiple of ``num_heads``.
        num_heads: H.
        text_hidden: width of the text stream's feed-forward layer.
        image_hidden: of the image stream's.
        dropout: on attention weights and on what is added to a stream, in [0, 1).
    """

    def __init__(
        self,
        *,
        text_dim: int,
        image_dim: int,
        dim: int,
        num_heads: int,
        text_hidden: int,
        image_hidden: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text_reads = _Reader(text_dim, image_dim, dim, num_heads=num_heads, hidden=text_hidden, dropout=dropout)
        self.image_reads = _Reader(image_dim, text_dim, dim, num_heads=num_heads, hidden=image_hidden, dropout=dropout)

    def forward(
        self, text_BLD: Tensor, image_BRV: Tensor, *, text_mask_BL: Tensor, image_mask_BR: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both streams after the exchange: (B, L, D) and (B, R, V). What is under a mask of 0 is read by none."""
        text_out_BLD = self.text_reads(text_BLD, image_BRV, image_mask_BR)
        return text_out_BLD, self.image_reads(image_BRV, text_BLD, text_mask_BL)

    def maps(
        self, text_BLD: Tensor, image_BRV: Tensor, *, text_mask_BL: Tensor, image_mask_BR: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention weights, text to regions (B, H, L, R) and regions to text (B, H, R, L); each row sums to 1."""
        to_image_BHLR = self.text_reads.weights(text_BLD, image_BRV, image_mask_BR)
        return to_image_BHLR, self.image_reads.weights(image_BRV, text_BLD, text_mask_BL)


class _Reader(nn.Module):
    """One direction of a connection: states (B, N, Q) that read a context (B, M, C)."""

    def __init__(
        self, states_dim: int, context_dim: int, dim: int, *, num_heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        assert dim % num_heads == 0, f"{dim} is no multiple of {num_heads} heads"
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(states_dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(context_dim, dim)
        self.out = nn.Linear(dim, states_dim)
        self.out_norm = nn.LayerNorm(states_dim, eps=1e-12)
        self.feed_forward = nn.Sequential(nn.Linear(states_dim, hidden), nn.GELU(), nn.Linear(hidden, states_dim))
        self.feed_forward_norm = nn.LayerNorm(states_dim, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def forward(self, states_BNQ: Tensor, context_BMC: Tensor, mask_BM: Tensor | None) -> Tensor:
        read_BHNd = F.scaled_dot_product_attention(
            self._heads(self.query(states_BNQ)),
            self._heads(self.key(context_BMC)),
            self._heads(self.value(context_BMC)),
            attn_mask=None if mask_BM is None else mask_BM[:, None, None, :].bool(),
            dropout_p=self.dropout if self.training else 0.0,
        )
        read_BNQ = self.out(read_BHNd.transpose(1, 2).flatten(2))
        states_BNQ = self.out_norm(states_BNQ + self.drop(read_BNQ))
        return self.feed_forward_norm(states_BNQ + self.drop(self.feed_forward(states_BNQ)))

    def weights(self, states_BNQ: Tensor, context_BMC: Tensor, mask_BM: Tensor | None) -> Tensor:
        """What the attention of ``forward`` weighs with, (B, H, N, M); the fused kernel does not give it."""
        query_BHNd, key_BHMd = self._heads(self.query(states_BNQ)), self._heads(self.key(context_BMC))
        scores_BHNM = query_BHNd @ key_BHMd.transpose(2, 3) / query_BHNd.shape[-1] ** 0.5
        if mask_BM is not None:
            scores_BHNM = scores_BHNM.masked_fill(mask_BM[:, None, None, :] == 0, float("-inf"))
        return scores_BHNM.softmax(dim=-1)

    def _heads(self, x_BNE: Tensor) -> Tensor:
        """(B, N, H d) as (B, H, N, d)."""
        return x_BNE.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def two_stream_schedule(*, text_layers: int, image_layers: int, connections: int) -> list[tuple[str, int]]:
    """The order in which two streams of layers and the connections between them run.

    The last ``connections`` layers of each stream follow one connection each; the layers below come first. So
    with 12 text layers, 6 image layers and 6 connections, the published model: text 0 to 5, connection 0, image 0
    and text 6, connection 1, ..., connection 5, image 5 and text 11.

    Args:
        text_layers: layers of the text stream.
        image_layers: layers of the image stream.
        connections: 1 or more, at most the layers of either stream.

    Returns:
        (kind, number) in order of execution, kind being 'text', 'image' or 'connection', numbers from 0.
    """
    assert 1 <= connections <= min(text_layers, image_layers)
    text_first, image_first = text_layers - connections, image_layers - connections
    steps = [("image", layer) for layer in range(image_first)] + [("text", layer) for layer in range(text_first)]
    for number in range(connections):
        steps += [("connection", number), ("image", image_first + number), ("text", text_first + number)]
    return steps
