"""NPZ: ``weight_l`` and ``bias_l`` of every layer; an ensemble's names start with ``member_N_``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnopt.export.format import Format
from gnopt.files import replacement
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import Content


class Npz(Format):
    """The arrays of every network, with the names of activations and loss."""

    name = "npz"
    suffixes = (".npz",)

    def write(self, content: Content, out: Path) -> None:
        arrays: dict[str, np.ndarray] = {}
        if content.ensemble:
            arrays["members"] = np.array(list(content.networks))
        for number, network in content.networks.items():
            prefix = f"member_{number}_" if content.ensemble else ""
            arrays |= {f"{prefix}{name}": part for name, part in _arrays(network).items()}
        with replacement(out) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def _arrays(network: StoredNetwork) -> dict[str, np.ndarray]:
    arrays = {
        "activations": np.array([*network.activations, "identity"]),
        "loss": np.array(network.loss),
    }
    for index, weights in enumerate(network.weights, start=1):
        arrays |= {f"weight_{index}": weights[:, :-1], f"bias_{index}": weights[:, -1]}
    if network.encoding is not None:
        arrays["input_names"] = np.array(network.encoding.features)
    if network.classes is not None:
        arrays["class_names"] = np.array(network.classes.names)
    if network.statistics is not None:
        arrays |= {f"input_{name}": values for name, values in network.statistics._asdict().items()}
    return arrays


FORMAT = Npz()
