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
        nn.init.normal_(self.embedding.weight, std=0.4 / np.sqrt(dim))
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


class Dot(nn.Module):
    """score = u · v."""

    def users(self, u: Tensor) -> Tensor:
        return u

    def items(self, v: Tensor) -> Tensor:
        return v


class Additive(nn.Module):
    """score = g(u, v) = W₃ (f(u) + f(v)) + b₃ with f(x) = W₁ σ(W₂ x + b₂) + b₁, as in the source.

    It is Σ of a term of the user and a term of the item, so it ranks items alike for everybody;
    written as the dot product of (W₃ f(u) + b₃, 1) and (1, W₃ f(v)).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.outer, self.last = (
            nn.Linear(dim, dim),
            nn.Linear(dim, dim),
            nn.Linear(dim, 1),
        )

    def f(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.outer(torch.sigmoid(self.inner(x))))

    def users(self, u: Tensor) -> Tensor:
        value = self.last(self.f(u))
        return torch.cat([value, torch.ones_like(value)], dim=-1)

    def items(self, v: Tensor) -> Tensor:
        value = self.f(v) @ self.last.weight.T
        return torch.cat([torch.ones_like(value), value], dim=-1)


class Towers(nn.Module):
    """u = encoder(v of the history) + W a; the head and a bias of the item score u with v."""

    def __init__(
        self, phi: Floats, trained: Array, width: int, encoder: EncoderKind, dim: int,
        layers: int, heads: int, dropout: float, id_dropout: float, additive: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.items = ItemTower(phi, trained, dim, id_dropout)
        self.encoder = make_encoder(encoder, dim, layers, heads, dropout)
        self.head: Dot | Additive = Additive(dim) if additive else Dot()
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Embedding(len(phi), 1)
        nn.init.zeros_(self.bias.weight)
        self.described = nn.Linear(width, dim, bias=False) if width else None

    def users(self, v: Tensor, attributes: Tensor) -> Tensor:
        """Return (B, T, e) states, ready for the dot product, after each item of a history.

        v: (B, T, d) the items' vectors; attributes: (B, p), p may be 0.
        """
        states = self.encoder(self.dropout(v * v.shape[-1] ** 0.5))
        if self.described is not None:
            states = states + self.described(attributes)[:, None]
        return self.head.users(states)


def to_state(network: nn.Module) -> State:
    """Return the weights as arrays."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def from_state(network: nn.Module, state: State) -> None:
    """Load what ``to_state`` returned."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    network.eval()
