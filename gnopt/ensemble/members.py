"""The members of an ensemble: in which settings each differs from the ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gnopt.config import Config, Flags
from gnopt.training import rundir


@dataclass(frozen=True)
class Member:
    """One network of an ensemble: its number from 1, and the settings that make it a single run."""

    number: int
    seed: int
    rows: str  # data.rows
    rows_seed: int

    @property
    def name(self) -> str:
        """The member in words, for messages."""
        rows = "" if self.rows == "all" else f", {self.rows}"
        return f"member {self.number} (seed {self.seed}{rows})"

    def path(self, ensemble: Path) -> Path:
        """Return the run directory of the member of the ensemble in this directory."""
        return rundir.member_path(ensemble, self.number)

    def flags(self) -> Flags:
        """Return the settings as flags that override the ensemble's configuration."""
        source = f"member {self.number}"
        return {
            f"{section}.{name}": (source, value)
            for section, part in (("data", self._data()), ("training", self._training()))
            for name, value in part.items()
        }

    def config(self, ensemble: Config) -> Config:
        """Return the configuration of the member's run."""
        return replace(
            ensemble,
            data=ensemble.data.changed(**self._data()),
            training=ensemble.training.changed(**self._training()),
        )

    def _data(self) -> dict[str, object]:
        return {"rows": self.rows, "rows_seed": self.rows_seed}

    def _training(self) -> dict[str, object]:
        return {"seed": self.seed, "members": 1, "folds": 0, "member_rows": "all"}


def members_of(config: Config) -> list[Member]:
    """Return the members of the ensemble that ``config`` describes.

    Their seeds are training.seed, training.seed + 1, ..., so that the first one is the network that
    would be trained alone. Folds are drawn by training.seed, and bootstrap samples by the seed of
    the member.
    """
    data, training = config.data, config.training
    members = []
    for number in range(1, training.networks + 1):
        seed = training.seed + number - 1
        rows, rows_seed = data.rows, data.rows_seed
        if training.folds:
            rows, rows_seed = f"fold {number}/{training.folds}", training.seed
        elif training.member_rows == "bootstrap":
            rows, rows_seed = "bootstrap", seed
        members.append(Member(number, seed, rows, rows_seed))
    return members
