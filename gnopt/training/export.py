"""Write networks for other programs; the suffix chooses the format: .h5, .npz or .onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt import __version__
from gnopt.errors import ConfigError
from gnopt.files import replacement, write_hdf5
from gnopt.training.checkpoint import StoredNetwork, write_network
from gnopt.training.onnx import encode, encode_ensemble

Members = Mapping[int, StoredNetwork]  # the networks of an ensemble, by number


def _hdf5(network: StoredNetwork, path: Path) -> None:
    write_hdf5(path, lambda file: write_network(file, network))


def _hdf5_ensemble(members: Members, path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.attrs.update(format="gnopt-ensemble", schema=1, gnopt=__version__)
        for number, network in members.items():
            write_network(file.create_group(f"members/{number}"), network)

    write_hdf5(path, fill)


def _npz(network: StoredNetwork, path: Path) -> None:
    _save_arrays(_arrays(network), path)


def _npz_ensemble(members: Members, path: Path) -> None:
    arrays: dict[str, Any] = {"members": np.array(list(members))}
    for number, network in members.items():
        arrays |= {f"member_{number}_{name}": part for name, part in _arrays(network).items()}
    _save_arrays(arrays, path)


def _arrays(network: StoredNetwork) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "activations": np.array([*network.activations, "identity"]),
        "loss": np.array(network.loss),
    }
    for index, weights in enumerate(network.weights, start=1):
        arrays |= {f"weight_{index}": weights[:, :-1], f"bias_{index}": weights[:, -1]}
    if network.statistics is not None:
        arrays |= {f"input_{name}": values for name, values in network.statistics._asdict().items()}
    return arrays


def _save_arrays(arrays: dict[str, Any], path: Path) -> None:
    with replacement(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _onnx(network: StoredNetwork, path: Path) -> None:
    _save_bytes(encode(network), path)


def _onnx_ensemble(members: Members, path: Path) -> None:
    _save_bytes(encode_ensemble(list(members.values())), path)


def _save_bytes(content: bytes, path: Path) -> None:
    with replacement(path) as temporary:
        temporary.write_bytes(content)


@dataclass(frozen=True)
class Format:
    """How a network, and how an ensemble, is written to a file."""

    network: Callable[[StoredNetwork, Path], None]
    ensemble: Callable[[Members, Path], None]


FORMATS = {
    ".h5": Format(_hdf5, _hdf5_ensemble),
    ".hdf5": Format(_hdf5, _hdf5_ensemble),
    ".npz": Format(_npz, _npz_ensemble),
    ".onnx": Format(_onnx, _onnx_ensemble),
}


def export_network(network: StoredNetwork, out: Path) -> None:
    """Write ``network`` to ``out``; ConfigError if the suffix of ``out`` names no format."""
    _format_of(out).network(network, out)


def export_ensemble(members: Members, out: Path) -> None:
    """Write the networks of an ensemble to ``out``.

    HDF5 and NPZ hold all networks; an ONNX model gives the mean of their predictions and its
    deviation. Raises ConfigError if the suffix of ``out`` names no format.
    """
    _format_of(out).ensemble(members, out)


def _format_of(out: Path) -> Format:
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{out}: the suffix {out.suffix!r} names no format; expected {', '.join(FORMATS)}"
        )
    return FORMATS[out.suffix.lower()]
