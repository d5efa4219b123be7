"""Curvature approximations, one file each, as siblings of one contract.

Every Kronecker-factored method approximates the Gauss-Newton block of layer l by A_{l-1} ⊗ G_l
(Botev et al. 2017, section 4). The input factor A_{l-1} = mean(ā āᵀ) is the same for all
(``factors.py``). A sibling says how the output factor G_l = mean(𝒢_l) is obtained from the tape and
the loss, and which class of block (``blocks.py``) is made of the two. A new file that defines
``CURVATURE`` is found by itself. Curvatures use the local facts of layers and losses and know no
activation or loss by name.

Reading order: ``cost`` → ``factors`` → ``damping`` → ``blocks`` → ``exact``; then the siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from gnopt.curvature.blocks import Bases, Block, KroneckerBlock
from gnopt.curvature.factors import Factor, Forms, second_moment
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, Tape
from gnopt.options import Settings
from gnopt.registry import discover, lookup


@dataclass
class CurvatureSample:
    """The data points from which a curvature is estimated, with the weights they were run under.

    ``tape`` is the forward pass of the data points and ``y`` their targets; ``memory`` bounds
    temporaries in bytes; ``forms`` says which forms a factor may take. Weights of data points, if
    ``y`` has any, are in units of their mean over the sample (``Loss.even``): A and the mean of
    f' f'ᵀ are then weighted averages, and G alone is in the units of the objective.
    """

    net: Network
    W: Sequence[Array]
    tape: Tape
    loss: Loss
    y: Array
    rng: np.random.Generator
    memory: int
    forms: Forms = field(default_factory=Forms)
    workspace: Workspace | None = None

    def take(self, rows: slice) -> CurvatureSample:
        """Return the same for a range of the data points, as views."""
        return replace(self, tape=self.tape.part(rows), y=self.y[rows])

    def counted(self, rows: Array) -> Array:
        """Return the rows of an array (N, d) in the size at which they count in a second moment:
        times √w_n, or as they are where all data points count the same.
        """
        weight = self.loss.weight(self.y)
        return rows if weight is None else rows * self.net.ops.xp.sqrt(weight)[:, None]

    def inputs(self, layer: int) -> Array:
        """Return ā_{l-1} of layer l = 1..L, as its second moment counts it."""
        return self.counted(self.tape.abar[layer - 1])

    def input_factor(self, layer: int) -> Factor:
        """Return A_{l-1} = mean(ā āᵀ) of layer l = 1..L, of dimension d_{l-1} + 1."""
        return second_moment(self.net.ops, self.inputs(layer), 1.0 / self.tape.rows, self.forms)


@dataclass(frozen=True, kw_only=True)
class CurvatureSettings(Settings):
    """The options of one sibling alone: none here."""


class Curvature:
    """The contract of a sibling: output factors G_l, or the diagonals S_l of its blocks, or both.

    ``block`` is the class of block that is made of them. An instance holds its settings; estimating
    changes nothing in the instance.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    other_names: ClassVar[tuple[str, ...]] = ()  # what others call it; a hint names ours
    colour: ClassVar[str] = ""  # "#RRGGBB", in every figure; without it, one that is free
    Settings: ClassVar[type[CurvatureSettings]] = CurvatureSettings
    block: ClassVar[type[Block]] = KroneckerBlock
    needs_likelihood: ClassVar[bool] = False  # samples targets from the model
    exact_output: ClassVar[bool] = False  # G_L is the mean of 𝒢_L itself, and diagonal where 𝒢_L is
    estimates_scales: ClassVar[bool] = False  # defines `scales`
    from_targets: ClassVar[bool] = False  # made of the data's own gradients, not of 𝒢
    exact_at_one_point: ClassVar[bool] = False  # A ⊗ G of one data point is its block of 𝒢

    settings: CurvatureSettings

    def __init__(self, settings: CurvatureSettings | None = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    @classmethod
    def cheapest(cls) -> CurvatureSettings:
        """Return the settings that conjugate gradients use: about one backward pass."""
        return cls.Settings()

    @classmethod
    def most_exact(cls, settings: CurvatureSettings) -> CurvatureSettings:
        """Return settings without the sketches that training uses, for looking at the curvature."""
        return settings

    def diagonal_factors(self, net: Network, loss: Loss) -> list[bool]:
        """Which of G_1..G_L are known to be diagonal, so that they cost nothing to invert."""
        return [False] * (net.layers - 1) + [self.exact_output and loss.diagonal]

    def means(self, sample: CurvatureSample) -> list[Factor]:
        """Return the means over the sample's data points that decide G_1..G_L, one a layer.

        For most siblings these are the G_l themselves. Means of parts of a batch, weighted by their
        shares of its rows, must add up to that of the batch, so that memory need not grow with it.
        """
        raise TypeError(f"curvature {type(self).__name__} does not define means")

    def finish(self, means: list[Factor], sample: CurvatureSample) -> list[Factor]:
        """Return G_1..G_L from the means of a batch, which may be overwritten.

        Called once a batch, after the means of all its parts were added up; of ``sample`` only the
        network, its weights and the forms count.
        """
        return means

    def output_factors(self, sample: CurvatureSample) -> list[Factor]:
        """Return G_1..G_L over the sample's data points."""
        return self.finish(self.means(sample), sample)

    def scales(self, sample: CurvatureSample, bases: Sequence[Bases]) -> list[Array]:
        """Return the mean diagonal of ā āᵀ ⊗ 𝒢_l in the bases (Q_G, Q_A) of every layer.

        Each is (d_l, d_{l-1} + 1); a basis of None is the identity.
        """
        raise TypeError(f"curvature {type(self).__name__} does not define scales")

    def temporaries(self, net: Network, loss: Loss, rows: int, memory: int) -> int:
        """Bytes that `means` takes for a while beside the tape, within ``memory``."""
        return 0

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        """Flops of one estimate from this many rows (products alone, see ``cost.py``).

        Factors of wider layers are in diagonal blocks of at most ``width``, 0 = never.
        """
        raise TypeError(f"curvature {type(self).__name__} does not define flops")


def all_curvatures() -> dict[str, type[Curvature]]:
    """Every curvature in this folder, by name."""
    return discover(__name__, "CURVATURE")


def get_curvature(name: str) -> type[Curvature]:
    """Return the curvature called ``name``; ConfigError if there is none."""
    curvature: type[Curvature] = lookup(__name__, "CURVATURE", name, "curvature")
    return curvature
