"""The network of DeepFM: a factorisation machine and an MLP over the same fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m6rec.arrays import Array, Floats, Ids


class Side(NamedTuple):
    """What one side brings to a score. total: (R, k) sum of its field vectors. bias: (R,) first
    order, and the pairs inside the side. hidden: (R, H) its share of the first layer."""

    total: Tensor
    bias: Tensor
    hidden: Tensor

    def take(self, rows: Tensor) -> Side:
        return Side(self.total[rows], self.bias[rows], self.hidden[rows])


class Bags(NamedTuple):
    """Histories of U users, and R rows that each leave out one item of theirs.

    item: (T,) items, user by user. start: (U,) first of each user. z: (T,) how far each rating
    is from its item's mean, in deviations. rated: (T,) 1 where there is a rating.
    user: (R,) which of the U. own, own_z, own_rated: (R,) what is left out. seen, judged: (R,)
    roots of the numbers of items and of ratings that are left. deviation: (R,) of the user.
    """

    item: Tensor
    start: Tensor
    z: Tensor
    rated: Tensor
    user: Tensor
    own: Tensor
    own_z: Tensor
    own_rated: Tensor
    seen: Tensor
    judged: Tensor
    deviation: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What the network is built for.

    n_users: 0 = users have no ids. item_domain, trained: (n_items,). item_blocks: (n_items, p),
    the blocks side by side; item_widths, user_widths: columns of each block. rated: whether
    there are explicit domains. start: (n_items,) first-order weights to begin with.
    """

    n_users: int
    item_domain: Ids
    trained: Array
    item_blocks: Floats
    item_widths: tuple[int, ...]
    user_widths: tuple[int, ...]
    rated: bool
    start: Floats


def second_order(vectors: Tensor) -> Tensor:
    """Return Σ_{f<g} v_f · v_g of field vectors (…, F, k): (…,)."""
    return (vectors.sum(dim=-2).square() - vectors.square().sum(dim=-2)).sum(dim=-1) / 2


class DeepFM(nn.Module):
    """score = Σ w + Σ_{f<g} v_f · v_g + MLP(v) over the fields of a user and an item.

    User: history (who was seen), ratings, id, attribute blocks. Item: id, domain, attribute
    blocks. A table has a row for each value of a feature: k numbers of v, then w.
    """

    phi: Tensor
    trained: Tensor
    domain: Tensor

    def __init__(
        self, given: Given, dim: int, hidden: Sequence[int], dropout: float, id_dropout: float
    ) -> None:
        super().__init__()
        self.given, self.dim, self.id_dropout = given, dim, id_dropout
        n, domains = len(given.item_domain), int(given.item_domain.max(initial=0)) + 1
        rows = {"item": n, "domain": domains, "item_attributes": sum(given.item_widths)}
        rows |= {"history": n, "user_attributes": sum(given.user_widths)}
        rows |= {"rating": n} if given.rated else {}
        rows |= {"user": given.n_users} if given.n_users else {}
        self.tables = nn.ParameterDict(
            {name: torch.randn(count, dim + 1) * 0.1 for name, count in rows.items()}
        )
        with torch.no_grad():
            for table in self.tables.values():
                table[:, dim] = 0
            self.tables["item"][:, dim] = torch.from_numpy(given.start)
        self.register_buffer("phi", torch.from_numpy(given.item_blocks), persistent=False)
        own = torch.from_numpy(given.trained.astype(np.float32))
        self.register_buffer("trained", own, persistent=False)
        domain = torch.from_numpy(given.item_domain.astype(np.int64))
        self.register_buffer("domain", domain, persistent=False)
        n_user_fields = 1 + given.rated + (given.n_users > 0) + len(given.user_widths)
        width = hidden[0] if hidden else 0
        n_item_fields = 2 + len(given.item_widths)
        self.of_user = first_layer(n_user_fields * dim, width)
        self.of_item = first_layer(n_item_fields * dim, width)
        self.of_item_bias = nn.Parameter(torch.zeros(width))
        sizes = [*hidden, 1] if hidden else []
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def item_fields(self, items: Tensor) -> Tensor:
        """Return (M, F, k + 1): id, domain, attribute blocks. Items without events, and at
        random others, have no id."""
        own = self.trained[items]
        if self.training and self.id_dropout and self.given.item_widths:
            own = own * (torch.rand_like(own) >= self.id_dropout)
        ids = self.tables["item"][items] * own[:, None]
        blocks = attribute_fields(
            self.phi[items], self.tables["item_attributes"], self.given.item_widths
        )
        return torch.stack([ids, self.tables["domain"][self.domain[items]], *blocks], dim=1)

    def users(self, bags: Bags, attributes: Tensor, user: Tensor) -> Side:
        """Return the user side of R rows. attributes: (R, p). user: (R,) codes."""
        fields = [self.pooled("history", bags, None, None) / bags.seen[:, None]]
        if self.given.rated:
            weighted = self.pooled("rating", bags, bags.z, bags.own_z)
            flat = self.pooled("rating", bags, bags.rated, bags.own_rated)
            fields.append((weighted - bags.deviation[:, None] * flat) / bags.judged[:, None])
        if self.given.n_users:
            fields.append(self.tables["user"][user])
        fields += attribute_fields(
            attributes, self.tables["user_attributes"], self.given.user_widths
        )
        return self.side(torch.stack(fields, dim=1), self.of_user)

    def pooled(self, name: str, bags: Bags, weight: Tensor | None, own: Tensor | None) -> Tensor:
        """Return Σ weight · row over each history, less what is left out: (R, k + 1)."""
        table = self.tables[name]
        sums = functional.embedding_bag(
            bags.item, table, bags.start, mode="sum", per_sample_weights=weight
        )
        mine = table[bags.own]
        return torch.as_tensor(sums[bags.user] - (mine if own is None else mine * own[:, None]))

    def side(self, fields: Tensor, first: Tensor) -> Side:
        """Return what the fields (R, F, k + 1) of one side bring to a score; first: (H, F k)."""
        vectors, weights = fields[..., : self.dim], fields[..., self.dim]
        bias = weights.sum(dim=1) + second_order(vectors)
        return Side(vectors.sum(dim=1), bias, vectors.flatten(1) @ first.T)

    def items(self, items: Tensor) -> Side:
        """Return the item side of items (M,)."""
        side = self.side(self.item_fields(items), self.of_item)
        return side._replace(hidden=side.hidden + self.of_item_bias)

    def deep(self, hidden: Tensor) -> Tensor:
        """Return (…,): the MLP after its first layer's sums (…, H)."""
        for layer in self.layers:
            hidden = layer(self.dropout(torch.relu(hidden)))
        return hidden[..., 0] if len(self.layers) else hidden.sum(dim=-1)

    def paired(self, u: Side, v: Side) -> Tensor:
        """Return the scores of R pairs: (R,)."""
        return (u.total * v.total).sum(dim=1) + u.bias + v.bias + self.deep(u.hidden + v.hidden)

    def crossed(self, u: Side, v: Side) -> Tensor:
        """Return the scores of all pairs: (R, M)."""
        linear = u.total @ v.total.T + u.bias[:, None] + v.bias
        return linear + self.deep(u.hidden[:, None] + v.hidden)

    def frequency_penalty(self, weight: Mapping[str, Tensor]) -> Tensor:
        """Return Σ weight_r ‖row_r‖² over the rows of the tables."""
        return torch.stack(
            [(self.tables[name].square().sum(dim=1) * w).sum() for name, w in weight.items()]
        ).sum()

    @torch.no_grad()
    def shrink(self, step: float, names: Sequence[str]) -> None:
        """Do the proximal step of step · √(k + 1) · Σ_r ‖row_r‖: rows near zero become zero."""
        for name in names:
            table = self.tables[name]
            norm = table.norm(dim=1, keepdim=True).clamp(min=1e-12)
            table *= (1 - step * (self.dim + 1) ** 0.5 / norm).clamp(min=0)


def first_layer(inputs: int, width: int) -> nn.Parameter:
    """Return weights (width, inputs) of one side of the MLP's first layer."""
    return nn.Parameter(torch.randn(width, inputs) * inputs**-0.5)


def attribute_fields(blocks: Tensor, table: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return the field (R, k + 1) of each attribute block; blocks (R, p) side by side."""
    if not widths:
        return []
    parts = zip(blocks.split(widths, dim=1), table.split(widths), strict=True)  # type: ignore[no-untyped-call]
    return [block @ rows for block, rows in parts]
