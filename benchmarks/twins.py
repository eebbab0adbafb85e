"""Twins in amazon-cdr: pairs, and the share of test rows that one of them gives away."""

from __future__ import annotations

import time

import numpy as np
from datasets import amazon_cdr, union

from m6rec.data.twins import drop_twins, find_twins

if __name__ == "__main__":
    print(f"{'pair':<12} {'twins':>6} {'seconds':>8} {'in':>6} {'test rows given away':>21} "
          f"{'source events dropped':>22}")  # fmt: skip
    find_twins(amazon_cdr("sport", "phone").train)  # compiles
    for pair in (("sport", "cloth"), ("sport", "phone")):
        split = amazon_cdr(*pair)
        both = union(split.train, split.test)
        start = time.perf_counter()
        twins = find_twins(both)
        seconds = time.perf_counter() - start
        near = split.train.positives @ twins.partners(both.n_items)
        hit = np.asarray(near[split.test.user, split.test.item]).ravel() > 0
        domain = split.test.item_domain[split.test.item]
        for code, name in enumerate(pair):
            dropped = len(split.train) - len(drop_twins(split.train, twins, name))
            print(f"{'-'.join(pair):<12} {len(twins):>6} {seconds:>8.2f} {name:>6} "
                  f"{hit[domain == code].mean():>20.1%} {dropped:>22,}")  # fmt: skip
