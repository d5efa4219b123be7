"""Write a network for other programs; the suffix chooses the format: .h5, .npz or .onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gnopt.errors import ConfigError
from gnopt.files import replacement, write_hdf5
from gnopt.training.checkpoint import StoredNetwork, write_network
from gnopt.training.onnx import encode


def _hdf5(network: StoredNetwork, path: Path) -> None:
    write_hdf5(path, lambda file: write_network(file, network))


def _npz(network: StoredNetwork, path: Path) -> None:
    arrays: dict[str, Any] = {
        "activations": np.array([*network.activations, "identity"]),
        "loss": np.array(network.loss),
    }
    for index, weights in enumerate(network.weights, start=1):
        arrays |= {f"weight_{index}": weights[:, :-1], f"bias_{index}": weights[:, -1]}
    if network.statistics is not None:
        arrays |= {f"input_{name}": values for name, values in network.statistics._asdict().items()}
    with replacement(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _onnx(network: StoredNetwork, path: Path) -> None:
    model = encode(network)
    with replacement(path) as temporary:
        temporary.write_bytes(model)


FORMATS: dict[str, Callable[[StoredNetwork, Path], None]] = {
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
    ".onnx": _onnx,
}


def export_network(network: StoredNetwork, out: Path) -> None:
    """Write ``network`` to ``out``; ConfigError if the suffix of ``out`` names no format."""
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{out}: the suffix {out.suffix!r} names no format; expected {', '.join(FORMATS)}"
        )
    FORMATS[out.suffix.lower()](network, out)
