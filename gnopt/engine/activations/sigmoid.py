"""f(h) = 1 / (1 + exp(−h)), f' = a (1 − a), f'' = a (1 − a)(1 − 2a)."""

from gnopt.engine.activations import Activation


def _f(ops, h, out):
    return ops.sigmoid(h, out=out)


def _df(ops, h, a, out):
    xp = ops.xp
    xp.subtract(1.0, a, out=out)
    return xp.multiply(out, a, out=out)


def _d2f(ops, h, a):
    return a * (1.0 - a) * (1.0 - 2.0 * a)


ACTIVATION = Activation("sigmoid", "logistic function 1 / (1 + exp(-h))", _f, _df, _d2f, from_output=True)
