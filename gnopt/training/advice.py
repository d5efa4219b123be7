"""Say, before training starts, what a user should know of the run: inputs and targets whose scale
slows every method down or that are standardised, and batches of another size than configured.
"""

from __future__ import annotations

import numpy as np

from gnopt.data.moments import LARGE, TINY
from gnopt.engine.initializers import AUTO
from gnopt.training.setup import Experiment

ROWS = 1000


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
    """Return a line on the inputs and a line on the targets, each only if there is need.

    Inputs that are standardised because their scales ask for it are mentioned; of others the first
    ``ROWS`` training rows decide. The loop logs the lines at the start.
    """
    x, y = experiment.data.train.rows_at(0, ROWS)
    notes = [_input_note(experiment, x), "" if y is x else _target_note(experiment)]
    return [note for note in notes if note]


def _input_note(experiment: Experiment, x: np.ndarray) -> str:
    data = experiment.data
    if data.why_standardized:
        return f"inputs are standardised: {data.why_standardized}; data.standardize = false if not"
    sizes = np.sqrt(np.square(x, dtype=np.float64).mean(axis=0))
    widest = int(sizes.argmax())
    if data.statistics is not None or TINY <= sizes[widest] <= LARGE or not sizes[widest]:
        return ""
    large = sizes[widest] > LARGE
    factor = "smaller" if large else "larger"
    return (
        f"inputs are {'large' if large else 'small'}: column {widest} has "
        f"{'a' if large else 'the largest'} root mean square of {sizes[widest]:.3g} in the first "
        f"{len(x):,} rows; data.standardize = true, or a {factor} 'scale' of the data set, will "
        "help"
    )


def _target_note(experiment: Experiment) -> str:
    units = experiment.target_units()
    if (units == 1.0).all():
        return ""
    deviation = float(units.max())
    attribute = f"an attribute 'scale' of about {1.0 / deviation:.1g}"
    begin = f"targets deviate by {deviation:.3g} from their mean"
    if experiment.config.network.init == AUTO:
        return (
            f"{begin}: the output weights start in these units; for a first-order method, give the "
            f"targets {attribute}"
        )
    return (
        f"{begin}; networks start with outputs that vary by about 1: give the targets {attribute}, "
        f"or set network.init = {AUTO}"
    )
