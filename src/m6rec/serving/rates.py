"""How often a client may ask, counted by all workers of one machine together."""

from __future__ import annotations

import hashlib
import mmap
import time
from pathlib import Path

PLACES = 2**18  # clients that are told apart; two of 10,000 share a place with a chance of 4 %
SIZE = 8  # bytes of a place


class Rates:
    """Buckets of one second's requests, at least one, in memory that workers share by a file.

    A place holds the time at which its bucket is full again, on the clock of the machine, which
    all its processes share: as long before that as the bucket lasts, it is empty. Two workers
    that look at the same moment may both let a request through that only one should.

    rate: requests a second of one client, 0 = any. file: made if it is missing; "" = of this
    process alone.
    """

    def __init__(self, rate: float, file: str = "") -> None:
        self.rate = rate
        if not rate:
            return
        if file:
            with Path(file).open("a+b") as shared:
                shared.truncate(PLACES * SIZE)
                self._memory = mmap.mmap(shared.fileno(), PLACES * SIZE)
        else:
            self._memory = mmap.mmap(-1, PLACES * SIZE)
        self._full = memoryview(self._memory).cast("d")

    def may(self, client: str) -> bool:
        """Count a request of a client; False where it is one too many, which counts as none."""
        if not self.rate:
            return True
        digest = hashlib.blake2b(client.encode(errors="replace"), digest_size=8).digest()
        place, now = int.from_bytes(digest, "little") % PLACES, time.monotonic()
        full = max(now, self._full[place]) + 1 / self.rate
        if full - now > max(1.0, 1 / self.rate) + 1e-9:
            return False
        self._full[place] = full
        return True
