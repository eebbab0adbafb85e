"""The networks of the two towers: items from what is known of them, users from their history."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from m6rec.arrays import Array, Floats, State
from m6rec.models.encoders import EncoderKind, make_encoder


class ItemTower(nn.Module):
    """v_i = id_i + W φ_i: (n, d). Items without events, and at random others, have no id part.

    phi: (n_items, p) what is known of items; trained: (n_items,) those with events.
    """

    phi: Tensor
    trained: Tensor

    def __init__(self, phi: Floats, trained: Array, dim: int, id_dropout: float) -> None:
        super().__init__()
        n, p = phi.shape
        self.embedding = nn.Embedding(n, dim)
        nn.init.normal_(self.embedding.weight, std=0.1 / np.sqrt(dim) * 4)
        self.register_buffer("phi", torch.from_numpy(phi), persistent=False)
        trained_ = torch.from_numpy(trained.astype(np.float32))
        self.register_buffer("trained", trained_, persistent=False)
        self.described = nn.Linear(p, dim, bias=False) if p else None
        self.id_dropout = id_dropout if p else 0.0

    def forward(self, items: Tensor) -> Tensor:
        """Return (…, d) vectors of item codes ≥ 0."""
        own = self.trained[items]
        if self.training and self.id_dropout:
            own = own * (torch.rand(own.shape) >= self.id_dropout)
        v = self.embedding(items) * own[..., None]
        if self.described is not None:
            v = v + self.described(self.phi[items])
        return torch.as_tensor(v)


class Towers(nn.Module):
    """u = encoder(v of the history) + W a: the dot product with v_i, and a bias, scores an item."""

    attributes: Tensor

    def __init__(
        self, phi: Floats, trained: Array, width: int, encoder: EncoderKind, dim: int,
        layers: int, heads: int, dropout: float, id_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.items = ItemTower(phi, trained, dim, id_dropout)
        self.encoder = make_encoder(encoder, dim, layers, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Embedding(len(phi), 1)
        nn.init.zeros_(self.bias.weight)
        self.described = nn.Linear(width, dim, bias=False) if width else None

    def users(self, v: Tensor, attributes: Tensor | None) -> Tensor:
        """Return (B, T, d) states after each of the items whose vectors v (B, T, d) are."""
        states = self.encoder(self.dropout(v * v.shape[-1] ** 0.5))
        if self.described is not None and attributes is not None:
            states = states + self.described(attributes)[:, None]
        return torch.as_tensor(states)


def to_state(network: nn.Module) -> State:
    """Return the weights as arrays."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def from_state(network: nn.Module, state: State) -> None:
    """Load what ``to_state`` returned."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    network.eval()
