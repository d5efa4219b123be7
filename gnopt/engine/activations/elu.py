"""f(h) = h for h > 0, exp(h) − 1 otherwise (Clevert et al. 2015, slope 1)."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import REACH, InitRule, he
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    xp = ops.xp
    negative = xp.expm1(xp.minimum(h, 0.0))
    xp.maximum(h, 0.0, out=out)
    out += negative
    return out


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    # exp(h) = a + 1 on the left branch, and 1 = min(a, 0) + 1 on the right one.
    ops.xp.minimum(a, 0.0, out=out)
    out += 1.0
    return out


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return (a <= 0.0) * (a + 1.0)


ACTIVATION = Activation(
    "elu",
    "h if h > 0 else exp(h) - 1",
    _f,
    _df,
    _d2f,
    from_output=True,
    onnx=Operator("Elu", alpha=1.0),
    init=InitRule(he, output=0.1, reach=REACH),
)
