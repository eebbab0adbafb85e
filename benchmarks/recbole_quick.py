"""RecBole's losses of SASRec and GRU4Rec, the same to rounding, in parts that fit the cache.

RecBole computes all 50 places of a batch of 2,048 at once, and the last layer of SASRec at every
place, of which it reads one. Here rows of like length are taken together without their padding,
the last layer is computed where it is read, and each part's gradient is added at once. Used for
what takes hours otherwise; never for a time that is told as RecBole's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def quicken(network: nn.Module) -> None:
    """Replace ``calculate_loss``, and where half of the values drop out also how they are drawn."""
    attention = hasattr(network, "trm_encoder")
    torch.autograd.set_detect_anomaly(False)  # RecBole 1.2.1 turns it on (in sine.py)
    network.calculate_loss = loss(
        network, sasrec if attention else gru4rec, 128 if attention else 256
    )
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Dropout) and child.p == 0.5:
                setattr(part, name, Half())


class Half(nn.Module):
    """Dropout of a half, by the bits of a generator that torch's own seeds for each call."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        rng = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))
        words = rng.integers(0, 2**64, -(-x.numel() // 64), dtype=np.uint64)
        bits = torch.from_numpy(np.unpackbits(words.view(np.uint8))[: x.numel()])
        return x * bits.view(x.shape).to(x.dtype).mul_(2)


def loss(
    network: Any, states: Callable[[Any, Tensor, Tensor], Tensor], size: int
) -> Callable[[Any], Tensor]:
    """Return ``calculate_loss`` that has already added its gradient."""

    def found(batch: Any) -> Tensor:
        item, target = batch[network.ITEM_SEQ], batch[network.POS_ITEM_ID]
        length = batch[network.ITEM_SEQ_LEN]
        total = 0.0
        for rows in torch.argsort(length).split(size):
            longest = int(length[rows].max())
            state = states(network, item[rows, :longest], length[rows])
            scores = state @ network.item_embedding.weight.T
            value = functional.cross_entropy(scores, target[rows], reduction="sum") / len(item)
            value.backward()
            total += float(value.detach())
        return torch.tensor(total, requires_grad=True)

    return found


def sasrec(network: Any, item: Tensor, length: Tensor) -> Tensor:
    """Return (B, d) states after the last of the items (B, T)."""
    size, row = item.shape[1], torch.arange(len(item))
    x = network.item_embedding(item) + network.position_embedding.weight[:size]
    x = network.dropout(network.LayerNorm(x))
    later = torch.full((size, size), -10000.0).triu(1)
    for layer in network.trm_encoder.layer:
        attend, feed = layer.multi_head_attention, layer.feed_forward
        last = layer is network.trm_encoder.layer[-1]
        asked = x[row, length - 1][:, None] if last else x
        mask = later[length - 1][:, None, None] if last else later
        query, key, value = (
            turn(given).unflatten(2, (attend.num_attention_heads, -1)).transpose(1, 2)
            for turn, given in ((attend.query, asked), (attend.key, x), (attend.value, x))
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        share = attend.attn_dropout(torch.softmax(scores + mask, dim=3))
        y = attend.dense((share @ value).transpose(1, 2).flatten(2))
        x = attend.LayerNorm(attend.out_dropout(y) + asked)
        y = feed.dense_2(functional.gelu(feed.dense_1(x)))
        x = feed.LayerNorm(feed.dropout(y) + x)
    return x[:, 0]


def gru4rec(network: Any, item: Tensor, length: Tensor) -> Tensor:
    """Return (B, d) states after the last of the items (B, T)."""
    x, _ = network.gru_layers(network.emb_dropout(network.item_embedding(item)))
    return network.dense(x[torch.arange(len(item)), length - 1])
