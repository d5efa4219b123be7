"""FOOF: the inputs' second moments alone, with G_l = I (Benzing 2022)."""

from __future__ import annotations

from gnopt.curvature import Curvature, CurvatureSample
from gnopt.curvature.factors import Diagonal, Factor
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network


class FOOF(Curvature):
    """Gradient descent on the neurons: every G_l is the identity, kept as its diagonal."""

    name = "foof"
    summary = "gradient descent on neurons: A from the inputs, G the identity (Benzing 2022)"

    def diagonal_factors(self, net: Network, loss: Loss) -> list[bool]:
        return [True] * net.layers

    def means(self, sample: CurvatureSample) -> list[Factor]:
        net = sample.net
        return [Diagonal(net.ops.xp.ones(d, dtype=net.dtype)) for d in net.sizes[1:]]

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return 0.0


CURVATURE = FOOF
