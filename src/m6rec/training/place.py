"""Where networks train: on a graphics processor where torch finds one, else on the processor."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from m6rec.arrays import Array
from m6rec.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
CPU = torch.device("cpu")


def place(device: Device) -> torch.device:
    """Return the device of a name; "auto" is the graphics processor where there is one.

    Raises ConfigError where "cuda" is asked for and torch finds none.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise ConfigError('device = "cuda": torch finds none here; use "auto", or "cpu"')
    # without it cuBLAS may sum in another order each time, and torch refuses to
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


def beside(network: nn.Module) -> Callable[[Array], Tensor]:
    """Return what makes a tensor of an array, on the device where the network is now."""
    device = next(network.parameters()).device
    if device == CPU:
        return torch.from_numpy
    return lambda array: torch.from_numpy(array).to(device)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 by itself, rather than by way of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported())  # type: ignore[no-untyped-call]
