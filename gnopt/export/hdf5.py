"""HDF5: a network as checkpoints hold it, which ``--init-from`` takes; an ensemble as a group for
each member.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from gnopt import __version__
from gnopt.export.format import Format
from gnopt.files import write_hdf5
from gnopt.training.checkpoint import write_network
from gnopt.training.content import Content


class Hdf5(Format):
    """The groups of a checkpoint, without the state of the method."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5")

    def write(self, content: Content, out: Path) -> None:
        def fill(file: h5py.File) -> None:
            if not content.ensemble:
                write_network(file, content.first)
                return
            file.attrs.update(format="gnopt-ensemble", schema=1, gnopt=__version__)
            for number, network in content.networks.items():
                write_network(file.create_group(f"members/{number}"), network)

        write_hdf5(out, fill)


FORMAT = Hdf5()
