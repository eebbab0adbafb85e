"""The machines of a Ray cluster: connecting to them, and pieces of work sent there."""

from __future__ import annotations

import logging
from typing import Any

import ray

from m6rec.errors import ConfigError


def connect(address: str) -> None:
    """Join the cluster at an address: "auto" = the one that this machine belongs to, or else
    this machine alone; "ray://host:port" or "host:port" = that one. Joined already: nothing."""
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address != "auto":
            ray.init(address=address, **quiet)
            return
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f'cluster "{address}": cannot be joined ({error}); write "auto" or "ray://host:10001", '
            "and start it there with `ray start --head`"
        ) from None
