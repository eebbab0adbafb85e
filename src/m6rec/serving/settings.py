"""How the service runs: what the command line says, handed to every worker by the environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Literal

from m6rec.serving.logs import Form

VARIABLE = "M6REC_SERVE"  # JSON of the settings, for worker processes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """run: a run directory, or "current" for that which CURRENT names, followed as it changes.
    rival: a second run that answers a ``share`` of the users. store: database URL. threads: of a
    worker's kernels. body: bytes of a request at most. rate: requests a second of one client at
    most, 0 = no limit; rates: the file by which workers count them together, "" = each alone.
    candidates: in the place of the runs' ``[rank] candidates``, "" = as they say. poll: seconds
    between looks at CURRENT. log, requests: see ``logs``. opinion: a TOML file with [opinion]."""

    run: str = "current"
    rival: str = ""
    share: float = 0.5
    store: str = "sqlite:///m6rec.db"
    threads: int = 1
    body: int = 8_000_000
    rate: float = 0.0
    rates: str = ""
    candidates: str = ""
    poll: float = 1.0
    log: Form = "text"
    requests: bool = False
    opinion: str = ""

    def hand_down(self) -> None:
        """Put them into the environment of this process and of its children."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    def scored(self) -> int | Literal["auto"] | None:
        """Return ``candidates`` as a number or "auto"; None = as the runs say."""
        if self.candidates == "auto":
            return "auto"
        return int(self.candidates) if self.candidates else None

    @classmethod
    def handed_down(cls) -> Settings:
        """Return what ``hand_down`` left in the environment, or the defaults."""
        return cls(**json.loads(os.environ.get(VARIABLE, "{}")))
