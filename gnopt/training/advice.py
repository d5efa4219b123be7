"""What the first rows tell of data in units that no network starts well with."""

from __future__ import annotations

import numpy as np

from gnopt.training.setup import Experiment

ROWS = 1000
LARGE = 10.0  # root mean square of an input: weights of the usual size start every unit saturated
WIDE = 30.0  # deviation of a target from its mean: output weights have to grow, or shrink, as much


def scale_notes(experiment: Experiment) -> list[str]:
    """A line each on inputs and on targets whose scale will slow training down; none where all is
    well.
    """
    data, found = experiment.data, []
    x, y = data.train.rows_at(0, ROWS)
    sizes = np.sqrt(np.square(x, dtype=np.float64).mean(axis=0))
    widest = int(sizes.argmax())
    if sizes[widest] > LARGE:
        found.append(
            f"inputs are large: column {widest} has a root mean square of {sizes[widest]:.3g} "
            "in the first "
            f"{len(x):,} rows; data.standardize = true, or a smaller 'scale' of the data set, "
            "will help"
        )
    values = np.asarray(y, dtype=np.float64).reshape(len(x), -1)
    linear = y is not x and np.array_equal(
        experiment.loss.initial_bias(experiment.target_mean), experiment.target_mean
    )
    deviation = float(values.std(axis=0).max())
    if linear and not 1.0 / WIDE <= deviation <= WIDE and deviation > 0.0:
        found.append(
            f"targets deviate by {deviation:.3g} from their mean; networks start with outputs "
            "that vary by "
            f"about 1: give the targets an attribute 'scale' of about {1.0 / deviation:.1g}"
        )
    return found
