"""E = ½ ‖h − y‖²: Gaussian with unit variance."""

from gnopt.engine.losses import Loss


class SquaredError(Loss):
    """Gradient h − y, 𝒢_L = I, sample N(h, I)."""

    name = "squared_error"
    summary = "half the squared distance; 𝒢_L = I"
    diagonal = True

    def value(self, ops, h, y):
        difference = h - y
        return 0.5 * ops.xp.einsum("nk,nk->n", difference, difference)

    def gradient(self, ops, h, y):
        return h - y

    def value_and_gradient(self, ops, h, y):
        difference = h - y
        return 0.5 * ops.xp.einsum("nk,nk->n", difference, difference), difference

    def gn_diagonal(self, ops, h, y):
        return ops.xp.ones_like(h)

    def sample(self, ops, h, rng):
        return h + ops.normal(rng, h.shape, h.dtype)


LOSS = SquaredError()
