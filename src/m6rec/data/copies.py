"""Users whose items are nearly those of others: accounts that one program plays."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Ids, Mask

LEAST = 5  # items of a user who can be a copy: short profiles are alike by chance
OTHERS = 2  # copies that a user must have: two accounts may be one person's
BANDS, ROWS = 8, 4  # of the signatures: profiles that share 4 in 5 of their items meet with p = .98


def copied(user: Ids, item: Ids, likeness: float, seed: int = 0) -> Mask:
    """Return (n_users,) users of at least ``LEAST`` items with at least ``OTHERS`` near copies.

    user, item: (N,) codes of the events. likeness: least Jaccard index of two users' items.
    Candidates are found by MinHash signatures in bands (Broder 1997; Leskovec et al. 2014), so the
    time grows with the events, not with pairs of users; candidates are compared in full.
    """
    n_users, n_items = int(user.max(initial=0)) + 1, int(item.max(initial=0)) + 1
    found = np.zeros(n_users, np.bool_)
    of, thing = np.divmod(np.unique(user.astype(np.int64) * n_items + item), n_items)
    count = np.bincount(of, minlength=n_users)
    users = np.flatnonzero(count >= LEAST)
    if len(users) <= OTHERS:
        return found
    kept = count[of] >= LEAST
    thing, size = thing[kept], count[users]
    start = np.r_[0, np.cumsum(size)]
    ones = np.ones(len(thing), np.float32)
    profile = csr_array((ones, thing, start), shape=(len(users), n_items))
    rng = np.random.default_rng(seed)
    for _ in range(BANDS):
        signature = np.column_stack(
            [np.minimum.reduceat(rng.permutation(n_items)[thing], start[:-1]) for _ in range(ROWS)]
        )
        _, bucket = np.unique(signature, axis=0, return_inverse=True)
        bucket = bucket.ravel()
        order = np.argsort(bucket, kind="stable")
        first = order[np.searchsorted(bucket[order], bucket)]  # of each user's bucket
        met = np.flatnonzero(np.bincount(bucket)[bucket] > OTHERS)
        both = np.asarray(profile[met].multiply(profile[first[met]]).sum(axis=1)).ravel()
        near = met[both >= likeness * (size[met] + size[first[met]] - both)]
        alike = np.bincount(bucket[near], minlength=bucket.max() + 1)  # the first among them
        found[users[near[alike[bucket[near]] > OTHERS]]] = True
    return found
