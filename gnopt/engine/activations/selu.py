"""f(h) = s (h for h > 0, α (exp(h) − 1) otherwise), self-normalising (Klambauer et al. 2017)."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import InitRule, lecun
from gnopt.engine.onnx_form import Operator

ALPHA = 1.6732632423543772
SCALE = 1.0507009873554805


def _f(ops: Backend, h: Array, out: Array) -> Array:
    xp = ops.xp
    negative = (SCALE * ALPHA) * xp.expm1(xp.minimum(h, 0.0))
    xp.maximum(h, 0.0, out=out)
    out *= SCALE
    out += negative
    return out


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    # s on the right branch; s α exp(h) = a + s α on the left one.
    left = a <= 0.0
    out[...] = left * (a + (SCALE * ALPHA - SCALE))
    out += SCALE
    return out


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return (a <= 0.0) * (a + SCALE * ALPHA)


ACTIVATION = Activation(
    "selu",
    "scaled elu of self-normalising nets",
    _f,
    _df,
    _d2f,
    from_output=True,
    onnx=Operator("Selu", alpha=ALPHA, gamma=SCALE),
    init=InitRule(lecun),
)
