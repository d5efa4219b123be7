"""Say, before training starts, what a user should know of the run: inputs and targets whose scale
slows every method down, and batches of another size than configured.
"""

from __future__ import annotations

import numpy as np

from gnopt.training.setup import Experiment

ROWS = 1000
# Above this root mean square of an input, initial weights of the usual size saturate every unit.
LARGE = 10.0
# Beyond this deviation of a target (or below its inverse), the output weights must first grow (or
# shrink) by the same factor.
WIDE = 30.0


def batch_notes(experiment: Experiment, first: int) -> list[str]:
    """Return a line if the ``first`` batch does not hold the configured number of rows."""
    wanted, rows = experiment.config.training.batch_size, experiment.data.train.rows
    if first == min(wanted, rows):
        return []
    if first == rows:
        held = f"all {rows:,} training rows"
    else:
        held = f"{first:,} rows"
    why = "it is more than half of them" if 2 * wanted > rows else "fewer would cost nearly as much"
    return [
        f"batches hold {held}, not training.batch_size = {wanted}: {why} "
        "(optimizer.growth_limit = 1 keeps that size)"
    ]


def scale_notes(experiment: Experiment) -> list[str]:
    """Return a line on the inputs and a line on the targets, each only if its scale is bad.

    The first ``ROWS`` training rows decide. The loop logs the lines when a run starts.
    """
    data = experiment.data
    notes = []
    x, y = data.train.rows_at(0, ROWS)
    sizes = np.sqrt(np.square(x, dtype=np.float64).mean(axis=0))
    widest = int(sizes.argmax())
    if sizes[widest] > LARGE:
        notes.append(
            f"inputs are large: column {widest} has a root mean square of {sizes[widest]:.3g} "
            f"in the first {len(x):,} rows; data.standardize = true, or a smaller 'scale' of the "
            "data set, will help"
        )
    values = np.asarray(y, dtype=np.float64).reshape(len(x), -1)
    linear = y is not x and np.array_equal(
        experiment.loss.initial_bias(experiment.target_mean), experiment.target_mean
    )
    deviation = float(values.std(axis=0).max())
    if linear and not 1.0 / WIDE <= deviation <= WIDE and deviation > 0.0:
        notes.append(
            f"targets deviate by {deviation:.3g} from their mean; networks start with outputs "
            "that vary by about 1: give the targets an attribute 'scale' of about "
            f"{1.0 / deviation:.1g}"
        )
    return notes
