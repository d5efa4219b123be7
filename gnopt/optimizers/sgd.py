"""Stochastic gradient descent: δ = −ε g."""

from gnopt.engine.arrays import Array
from gnopt.optimizers.first_order import FirstOrder


class SGD(FirstOrder):
    """δ = −ε g."""

    name = "sgd"
    summary = "stochastic gradient descent"
    colour = "#8A8A8A"
    other_names = ("gd", "gradient_descent")

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        g *= -rate
        return g


OPTIMIZER = SGD
