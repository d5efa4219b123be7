"""The source form of a prediction: how C and other languages compute it from the outputs h.

Activations, and predictions that are made of one output each, need no such form: their functions
are traced (`gnopt.engine.arrays.trace`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coupled:
    """Bodies of three procedures in one language, as a loss states them for its prediction y(h).

    ``n`` is the number of outputs h, and J = ∂y/∂h. An array that a body writes is not one that
    it reads.
    """

    value: str  # y from h
    push: str  # dy = J dh, from h, y = y(h) and dh
    pull: str  # dh = Jᵀ dy, from h, y = y(h) and dy

    def procedures(self) -> list[tuple[str, str, str]]:
        """Return name, body and the array that is written, of each procedure."""
        return [
            ("predicted", self.value, "y"),
            ("push", self.push, "dy"),
            ("pull", self.pull, "dh"),
        ]
