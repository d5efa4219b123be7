"""Curvature approximations, one file each, as siblings of one contract.

Every Kronecker-factored method approximates the Gauss-Newton block of layer l by A_{l-1} ⊗ G_l
(Botev et al. 2017, section 4). The input factor A_{l-1} = mean(ā ā ᵀ) is the same for all
(``kron.py``); a sibling says how the output factor G_l = mean(𝒢_l) is obtained from the tape and
the loss. A new file that defines ``CURVATURE`` is found by itself. Curvatures use the local facts
of layers and losses and know no activation or loss by name.

Reading order: ``kron`` → ``exact``; then the siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import Network, Tape
from gnopt.options import Option
from gnopt.registry import discover, lookup


@dataclass
class Sample:
    """What a curvature looks at: a tape of some data points with the weights, loss and targets it
    belongs to.
    """

    net: Network
    W: Sequence[Array]
    tape: Tape
    loss: Any
    y: Array
    rng: np.random.Generator
    memory: int  # bytes that temporaries may take
    settings: dict[str, Any] = field(default_factory=dict)
    workspace: Workspace | None = None

    def take(self, rows: slice) -> Sample:
        """The same for a range of the data points, as views."""
        tape = Tape(
            [a[rows] for a in self.tape.abar],
            [None if h is None else h[rows] for h in self.tape.h],
            self.tape.output[rows],
        )
        return Sample(
            self.net,
            self.W,
            tape,
            self.loss,
            self.y[rows],
            self.rng,
            self.memory,
            self.settings,
            self.workspace,
        )


class Curvature:
    """The contract of a sibling: output factors G_l, and for some the diagonal of the block in a
    basis of their own.

    ``basis`` says what is inverted: "factors" the damped A and G; "eigen" the diagonal that
    ``scales`` estimates in the eigenbases of A and G; "identity" that diagonal in the parameters'
    own basis, without any factors.
    """

    name: str = ""
    summary: str = ""
    options: tuple[Option, ...] = ()  # settings of this sibling alone
    needs_likelihood: bool = False  # samples targets from the model
    basis: str = "factors"
    exact_output: bool = False  # G_L is the mean of 𝒢_L itself, and diagonal where that is

    def means(self, sample: Sample) -> list[Array]:
        """Means over the sample's data points that decide G_1..G_L, one a layer: for most methods
        the G_l themselves.

        Means of blocks of a batch, weighted by their shares of its rows, add up to that of the
        batch.
        """
        raise TypeError(f"curvature {type(self).__name__} does not define means")

    def finish(self, means: list[Array], sample: Sample) -> list[Array]:
        """G_1..G_L from these means, which may be overwritten; of ``sample`` only net, weights and
        settings count.
        """
        return means

    def output_factors(self, sample: Sample) -> list[Array]:
        """G_1..G_L over the sample's data points: (d, d) each, or (d,) where G is known to be
        diagonal.
        """
        return self.finish(self.means(sample), sample)

    def scales(
        self, sample: Sample, bases: Sequence[tuple[Array | None, Array | None]]
    ) -> list[Array]:
        """Mean diagonal of ā āᵀ ⊗ 𝒢_l in bases (Q_G, Q_A) of every layer, (d_l, d_{l-1} + 1) each;
        None = identity.
        """
        raise TypeError(f"curvature {type(self).__name__} does not define scales")

    def temporaries(
        self, net: Network, loss: Any, rows: int, settings: dict[str, Any], memory: int
    ) -> int:
        """Bytes that ``output_factors`` takes for a while beside the tape, within ``memory``, where
        they count.
        """
        return 0

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        """Flops of ``output_factors`` for this many rows (products alone)."""
        raise TypeError(f"curvature {type(self).__name__} does not define flops")


def all_curvatures() -> dict[str, Curvature]:
    """Every Kronecker-factored curvature in this folder, by name."""
    return discover(__name__, "CURVATURE")


def get_curvature(name: str) -> Curvature:
    """The curvature called ``name``; ConfigError if there is none."""
    return lookup(__name__, "CURVATURE", name, "curvature")
