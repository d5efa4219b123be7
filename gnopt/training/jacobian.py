"""Derivatives of what a network predicts by its inputs, for ``gnopt predict --jacobian``.

By the chain rule ∂prediction/∂x = J_p(h_L) ∂h_L/∂z / std, where z = (x − mean) / std is what the
network sees: `gnopt.engine.network.input_jacobian` computes ∂h_L/∂z, and the loss multiplies by its
J_p. For a table, `Encoding.by_cells` goes on to the cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, forward, input_jacobian
from gnopt.errors import ConfigError
from gnopt.training.evaluate import CHUNK
from gnopt.training.layers import choose_layer

NUMBERS = 2**24  # that the derivatives of a chunk of rows may hold, about


@dataclass(frozen=True)
class Jacobian:
    """The derivatives of the prediction of a network with weights θ, or of its outputs h_L."""

    net: Network
    loss: Loss
    theta: Array
    of_prediction: bool

    @classmethod
    def of_layer(cls, net: Network, loss: Loss, theta: Array, name: str) -> Jacobian:
        """Return the derivatives of the layer that `choose_layer` finds by its name.

        Raises ConfigError for a hidden layer.
        """
        number = choose_layer(net, name)
        if number not in (0, net.layers):
            raise ConfigError(
                f"--layer {name}: --jacobian differentiates what a network predicts; expected "
                "output or logits"
            )
        return cls(net, loss, theta, number == 0)

    @property
    def rows(self) -> int:
        """How many rows are computed at once: at most ``CHUNK``, fewer for wide networks."""
        sizes = self.net.sizes
        columns = min(sizes[0], sizes[-1])
        row = sizes[0] * sizes[-1] + columns * max(sizes)
        return max(1, min(CHUNK, NUMBERS // row))

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the derivatives by the inputs z (N, D) of the network, (N, K, D) on the host."""
        ops, views = self.net.ops, self.net.views(self.theta)
        tape = forward(self.net, views, ops.asarray(z))
        jacobian = input_jacobian(self.net, views, tape)
        if self.of_prediction:
            columns = jacobian.transpose(2, 0, 1)
            product = self.loss.prediction_product(ops, tape.output, columns)
            jacobian = product.transpose(1, 2, 0)
        return ops.to_host(jacobian)

    def on(self, split: Split) -> Iterator[np.ndarray]:
        """Yield the derivatives by the inputs as they are in the data, not standardised, for the
        rows of ``split`` in file order: (n, K, D) for the next n rows.
        """
        for z, _ in split.chunks(self.rows):
            jacobian = self.at(z)
            if split.statistics is not None:
                jacobian = (jacobian / split.statistics.std).astype(self.net.dtype)
            yield jacobian
