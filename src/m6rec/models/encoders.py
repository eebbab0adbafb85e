"""Sequence encoders: item vectors oldest → newest (B, T, d) to states (B, T, d), causal.

Rows are padded on the right, so that what stands at a place depends only on the places before.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

EncoderKind = Literal["mlp", "cnn", "gru", "attention"]


def make_encoder(kind: EncoderKind, dim: int, layers: int, heads: int, dropout: float) -> nn.Module:
    """Return the encoder of a kind; all keep the dimension."""
    if kind == "mlp":
        return Pooled(dim, layers, dropout)
    if kind == "cnn":
        return Convolutions(dim, layers, dropout)
    if kind == "gru":
        return Recurrent(dim, layers, dropout)
    return Attention(dim, layers, heads, dropout)


class Pooled(nn.Module):
    """Mean of the items so far, newer ones counting more (a learned decay), through an MLP."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.5))
        self.blocks = nn.ModuleList(Feed(dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1], device=x.device)
        distance = (place[:, None] - place[None]).to(x.dtype)
        weight = torch.exp(-functional.softplus(self.decay) * distance.clamp(min=0))
        weight = torch.tril(weight)
        x = (weight / weight.sum(dim=1, keepdim=True)) @ x
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.norm(x))


class Convolutions(nn.Module):
    """Dilated causal convolutions with residuals (NextItNet, Yuan et al. 2019)."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim, dim, 3, dilation=2**i) for i in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.last = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = functional.pad(norm(x).transpose(1, 2), (2 * 2**i, 0))
            x = x + self.dropout(functional.gelu(convolution(y)).transpose(1, 2))
        return torch.as_tensor(self.last(x))


class Recurrent(nn.Module):
    """Gated recurrent units (GRU4Rec, Hidasi et al. 2016)."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(self.dropout(self.gru(x)[0])))


class Attention(nn.Module):
    """Causal self-attention (SASRec, Kang & McAuley 2018); places count by their distance."""

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return torch.as_tensor(self.norm(x))


class AttentionLayer(nn.Module):
    REACH = 128  # distances with a bias of their own; farther ones share the last

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, 3 * dim)
        self.outer = nn.Linear(dim, dim)
        self.distance = nn.Parameter(torch.zeros(heads, self.REACH))
        self.feed = Feed(dim, dropout)
        self.rate = dropout
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.inner(self.before(x)).chunk(3, dim=2)
        )
        place = torch.arange(t, device=x.device)
        distance = place[:, None] - place[None]
        bias = self.distance[:, distance.clamp(0, self.REACH - 1)]
        bias = bias.masked_fill(distance < 0, float("-inf")).to(q.dtype)
        rate = self.rate if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, bias[None], dropout_p=rate)
        x = x + self.dropout(self.outer(y.transpose(1, 2).reshape(b, t, d)))
        return torch.as_tensor(self.feed(x))


class Feed(nn.Module):
    """Two layers with a residual."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.wide, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(functional.gelu(self.wide(self.norm(x))))
        return torch.as_tensor(x + self.dropout(y))
