"""The networks of the two towers: items from what is known of them, users from their history."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m6rec.arrays import Array, Floats, State
from m6rec.models.encoders import EncoderKind, make_encoder
from m6rec.training.sequences import GAPS

Hybrid = Literal["separate", "residual", "tuned"]
SHORT = 3  # items of the shortest scale of a history


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
            own = own * (torch.rand_like(own) >= self.id_dropout)
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
    """u_d = head_d(encoder(v and gaps of the history) + W a + W_d û_d); the head and a bias of
    the item score u_d with v.

    width: user attributes. latent: length of û_d, the user's PCT vector in domain d. domains:
    number of them. gaps: whether the time between events is told. domain_heads: whether each
    domain turns u by a matrix of its own. scales: whether the mean of the newest ``SHORT`` items
    and that of all are told beside the encoder's state. events: types with a matrix of their
    own, 1 = none has. values: whether the value of an event is predicted as well. hybrid: see
    ``towers``; unless "separate", û_d and the items' PCT vectors (the last columns of φ) are
    further columns of u_d and v, so that the score adds α_d times PCT's.
    """

    shares: Tensor

    def __init__(
        self, phi: Floats, trained: Array, width: int, encoder: EncoderKind, dim: int,
        layers: int, heads: int, dropout: float, id_dropout: float, additive: bool,
        latent: int = 0, domains: int = 1, gaps: bool = False, domain_heads: bool = False,
        scales: bool = False, events: int = 1, values: bool = False, hybrid: Hybrid = "separate",
    ) -> None:  # fmt: skip
        super().__init__()
        self.items = ItemTower(phi, trained, dim, id_dropout)
        self.encoder = make_encoder(encoder, dim, layers, heads, dropout)
        self.head: Dot | Additive = Additive(dim) if additive else Dot()
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Embedding(len(phi), 1)
        nn.init.zeros_(self.bias.weight)
        self.described = nn.Linear(width, dim, bias=False) if width else None
        each = range(domains)
        self.latent = nn.ModuleList(nn.Linear(latent, dim, bias=False) for _ in each if latent)
        self.heads = nn.ModuleList(_nothing(dim) for _ in each if domain_heads)
        self.types = nn.ModuleList(_nothing(dim) for _ in range(events) if events > 1)
        if len(self.types):
            self.register_buffer("shares", torch.full((events,), 1 / events))
        self.scales = nn.ModuleList(_nothing(dim) for _ in range(2) if scales)
        self.gaps = nn.Embedding(GAPS, dim, padding_idx=0) if gaps else None
        if self.gaps is not None:
            nn.init.zeros_(self.gaps.weight)
        self.value = nn.Linear(dim, dim) if values else None
        self.value_bias = nn.Embedding(len(phi), 1) if values else None
        if self.value_bias is not None:
            nn.init.zeros_(self.value_bias.weight)
        tasks = max(1, len(self.types)) + values
        self.variance = nn.Parameter(torch.zeros(tasks)) if tasks > 1 else None
        self.factors = nn.Embedding(len(phi), latent) if latent and hybrid != "separate" else None
        if self.factors is not None:
            self.alpha = nn.Parameter(torch.full((domains,), latent**-0.5))
            known = torch.from_numpy(phi[:, max(0, phi.shape[1] - latent) :].copy())
            if known.shape[1] == latent:
                self.factors.weight.data.copy_(known)
            self.factors.weight.requires_grad_(hybrid == "tuned")

    def sequence(self, v: Tensor, gap: Tensor) -> Tensor:
        """Return (B, T, d) states after each item of a history.

        v: (B, T, d) the items' vectors; gap: (B, T) class of the time since the item before.
        """
        x = v * v.shape[-1] ** 0.5
        if self.gaps is not None:
            x = x + self.gaps(gap)
        states = self.encoder(self.dropout(x))
        if len(self.scales):
            place = torch.arange(1, v.shape[1] + 1, device=v.device)[:, None]
            total = x.cumsum(dim=1)
            before = functional.pad(total, (0, 0, SHORT, 0))[:, : v.shape[1]]
            states = states + self.scales[0](self.dropout(total - before) / place.clamp(max=SHORT))
            states = states + self.scales[1](self.dropout(total / place))
        return torch.as_tensor(states)

    def trunk(self, states: Tensor, attributes: Tensor, latent: Tensor, domain: int) -> Tensor:
        """Return (B, d): what is known of users for a domain, before the heads of event types.

        states: (B, d); attributes: (B, p); latent: (B, k), p and k may be 0.
        """
        if self.described is not None:
            states = states + self.described(attributes)
        if len(self.latent):
            states = states + self.latent[domain](self.dropout(latent))
        if len(self.heads):
            states = states + self.heads[domain](states)
        return states

    def vector(
        self, trunk: Tensor, latent: Tensor, domain: int, event: int | None = None
    ) -> Tensor:
        """Return (B, e) vectors of users, ready for the dot product: for an event type, or for
        all of them by their shares."""
        if len(self.types) and event is not None:
            trunk = trunk + self.types[event](trunk)
        elif len(self.types):
            turned = [s * turn(trunk) for s, turn in zip(self.shares, self.types, strict=True)]
            trunk = trunk + torch.stack(turned).sum(dim=0)
        users = self.head.users(trunk)
        if self.factors is not None:
            users = torch.cat([users, self.alpha[domain] * latent], dim=-1)
        return users

    def users(self, states: Tensor, attributes: Tensor, latent: Tensor, domain: int) -> Tensor:
        """Return (B, e): ``vector`` of the ``trunk``."""
        return self.vector(self.trunk(states, attributes, latent, domain), latent, domain)

    def keys(self, codes: Tensor, vectors: Tensor) -> Tensor:
        """Return (n, e): what meets the users' vectors. vectors: (n, d) of the items ``codes``."""
        keys = self.head.items(vectors)
        return keys if self.factors is None else torch.cat([keys, self.factors(codes)], dim=-1)


def _nothing(dim: int) -> nn.Linear:
    """Return a layer that starts as 0."""
    layer = nn.Linear(dim, dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class UserSide(nn.Module):
    """The users' vectors in each domain (B, D, e), after the last item of a history; (B, 1, e)
    where all domains have the same."""

    def __init__(self, network: Towers) -> None:
        super().__init__()
        self.network = network
        self.domains = max(1, len(network.latent), len(network.heads))

    def forward(
        self, vectors: Tensor, gap: Tensor, count: Tensor, attributes: Tensor, latent: Tensor
    ) -> Tensor:
        """vectors: (B, T, d), padded on the right; gap: (B, T); count: (B,) items; attributes:
        (B, p); latent: (B, D, k)."""
        states = self.network.sequence(vectors, gap)
        last = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
        state = states.gather(1, last)[:, 0]
        return torch.stack(
            [self.network.users(state, attributes, latent[:, d], d) for d in range(self.domains)],
            dim=1,
        )


def to_state(network: nn.Module) -> State:
    """Return the weights as arrays."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def from_state(network: nn.Module, state: State) -> None:
    """Load what ``to_state`` returned."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    network.eval()
