"""Say, before training starts, what a user should know of the data of a run: inputs and targets
whose scale slows every method down or that are standardised.
"""

from __future__ import annotations

import numpy as np

from gnopt.data.moments import moments
from gnopt.engine.initializers import AUTO
from gnopt.training.setup import Experiment

ROWS = 1000


def label_notes(experiment: Experiment) -> list[str]:
    """Return a line on how labels are numbered, if they do not keep their numbers."""
    data = experiment.data
    is_labels = experiment.loss.most_classes > 0 and data.classes is not None
    note = data.classes.note() if is_labels and data.classes else ""
    return [note] if note else []


def scale_notes(experiment: Experiment) -> list[str]:
    """Return a line on the inputs and a line on the targets, each only if there is need.

    Inputs that were standardised because they asked for it are mentioned. So are inputs that ask
    for it but are left as they are, by the setting or as the targets of an autoencoder; the first
    ``ROWS`` training rows decide. The loop logs the lines at the start.
    """
    x, _ = experiment.data.train.rows_at(0, ROWS)
    autoencoder = experiment.data.train.autoencoder
    notes = [_input_note(experiment, x), "" if autoencoder else _target_note(experiment)]
    return [note for note in notes if note]


def _input_note(experiment: Experiment, x: np.ndarray) -> str:
    data = experiment.data
    if data.why_standardized:
        return (
            f"inputs are standardised: {data.why_standardized}; data.standardize = false leaves "
            "them as they are"
        )
    autoencoder = data.train.autoencoder
    left_open = experiment.config.data.standardize_if_asked()
    if data.statistics is not None:
        taken = "inputs are standardised as those of the network that the run starts from"
        return taken if left_open else ""
    why = moments([x], 1.0, x.dtype).why_standardize()
    if why is None or (left_open and not autoencoder):
        return ""
    remedy = "" if autoencoder else "data.standardize = true, or "
    return (
        f"inputs of this scale slow training down: {why} in the first {len(x):,} rows; {remedy}"
        "an attribute 'scale' of the data set will help"
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
