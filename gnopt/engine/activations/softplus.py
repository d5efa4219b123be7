"""f(h) = log(1 + exp(h)), f' = σ(h), f'' = σ(h)(1 − σ(h))."""

from gnopt.engine.activations import Activation


def _f(ops, h, out):
    out[...] = ops.softplus(h)
    return out


def _df(ops, h, a, out):
    return ops.sigmoid(h, out=out)


def _d2f(ops, h, a):
    s = ops.sigmoid(h)
    return s * (1.0 - s)


ACTIVATION = Activation("softplus", "log(1 + exp(h))", _f, _df, _d2f)
