"""A small shop on disk: two domains, titles, attributes, times; and the TOML that trains it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from world import world

TOML = """\
name = "shop"
seed = 3
[data]
interactions = "log.csv"
items = "items.csv"
users = "users.csv"
[model]
kind = "neighbours"
k = 10
[evaluate]
metrics = ["ndcg@10", "recall@10"]
[[evaluate.baselines]]
kind = "popular"
[twins]
action = "report"
[run]
out = "runs"
"""


def write_shop(folder: Path) -> Path:
    """Write log.csv, items.csv, users.csv and shop.toml; returns the path of the TOML."""
    data = world()
    names = ["films", "books"]
    item = [key.split("/")[1] for key in data.items.keys]
    domain = [names[d] for d in data.item_domain]
    pl.DataFrame(
        {
            "user": data.users.keys.gather(data.user),
            "item": [item[i] for i in data.item],
            "domain": [domain[i] for i in data.item],
            "time": data.time,
        }
    ).write_csv(folder / "log.csv")
    pl.DataFrame(
        {
            "item": item,
            "domain": domain,
            "title": [f"{text.title()}, The" for text in data.item_text or ()],
            "group": [f"g{i % 4}" for i in range(40)],
            "year": [1980 + i for i in range(40)],
        }
    ).write_csv(folder / "items.csv")
    ages = [20 + 10 * (u % 4) for u in range(120)]
    pl.DataFrame({"user": data.users.keys, "age": ages}).write_csv(folder / "users.csv")
    (folder / "shop.toml").write_text(TOML)
    return folder / "shop.toml"
