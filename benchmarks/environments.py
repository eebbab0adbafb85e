"""The peers' environments: one for each, since their pins contradict each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from m6rec.cache import cache_dir

PINS: dict[str, tuple[str, ...]] = {
    "implicit": ("implicit==0.7.3", "numpy==2.4.6", "scipy==1.17.1"),
    "rectools": ("rectools==0.19.0", "numpy==1.26.4", "scipy==1.17.1", "pandas==2.3.3"),
    "lenskit": ("lenskit==2025.8.1", "numpy==2.4.6", "scipy==1.17.1", "pandas==2.3.3"),
    "recbole": ("recbole==1.2.1", "numpy==2.4.6", "scipy==1.17.1", "pandas==3.1.1", "torch==2.13.0",
                "setuptools==84.2.1"),
    "surprise": ("scikit-surprise==1.1.5", "numpy==2.4.6", "scipy==1.17.1"),
    "cornac": ("cornac==3.0.1", "numpy==2.4.6", "scipy==1.17.1"),
    "lightfm": ("lightfm-next==1.19.0", "numpy==2.4.6", "scipy==1.17.1"),
}  # fmt: skip
OLD_NAMES = """import numpy as np
np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_
np.long = np.int64
"""  # that RecBole 1.2.1 uses and numpy 2 dropped


def python(peer: str, folder: Path | None = None) -> Path:
    """Return the Python of a peer's environment under folder, which is made where missing.

    One that is half made, or of other pins, is made again. Raises RuntimeError, with what pip
    said, where it cannot be made.
    """
    home = (folder or cache_dir() / "peers").resolve() / peer
    found, made_of = home / "bin" / "python", home / "m6rec-pins.txt"
    pins = "\n".join(PINS[peer]) + "\n"
    if made_of.exists() and made_of.read_text() == pins:
        return found
    print(f"making the environment of {peer}: {' '.join(PINS[peer])}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    command = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    made = subprocess.run([*command, *PINS[peer]], capture_output=True, text=True)
    if made.returncode:
        said = made.stderr.strip()[-500:]
        raise RuntimeError(f"the environment of {peer} cannot be made: {said}")
    if peer == "recbole":
        site = next((home / "lib").glob("python*/site-packages"))
        (site / "sitecustomize.py").write_text(OLD_NAMES)
    made_of.write_text(pins)
    return found


def versions(python: Path) -> list[str]:
    """Return what is installed in an environment, as pip writes it."""
    command = [str(python), "-m", "pip", "freeze", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[:-1]
