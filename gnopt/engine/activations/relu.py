"""f(h) = max(h, 0), f'(0) = 0, f'' = 0."""

from gnopt.engine.activations import Activation


def _f(ops, h, out):
    return ops.xp.maximum(h, 0.0, out=out)


def _df(ops, h, a, out):
    out[...] = a > 0.0
    return out


def _d2f(ops, h, a):
    return ops.xp.zeros_like(a)


ACTIVATION = Activation("relu", "max(h, 0)", _f, _df, _d2f, from_output=True, piecewise_linear=True)
