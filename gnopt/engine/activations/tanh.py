"""f(h) = tanh h, f' = 1 − a², f'' = −2 a (1 − a²)."""

from gnopt.engine.activations import Activation


def _f(ops, h, out):
    return ops.xp.tanh(h, out=out)


def _df(ops, h, a, out):
    xp = ops.xp
    xp.multiply(a, a, out=out)
    return xp.subtract(1.0, out, out=out)


def _d2f(ops, h, a):
    return -2.0 * a * (1.0 - a * a)


ACTIVATION = Activation("tanh", "hyperbolic tangent", _f, _df, _d2f, from_output=True)
