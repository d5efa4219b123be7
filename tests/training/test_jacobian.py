"""The derivatives of predictions by inputs that `gnopt predict --jacobian` writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference import close, host, make_case, same

from gnopt.engine.weighted import Weighted
from gnopt.errors import ConfigError
from gnopt.training import jacobian as module
from gnopt.training.jacobian import Jacobian


def of(case, layer):
    return Jacobian.of_layer(case.net, case.loss, case.theta, layer)


# From few inputs on, from few outputs back, and without a hidden layer.
@pytest.mark.parametrize("sizes", [(2, 5, 4, 6), (6, 4, 5, 2), (4, 2)])
@pytest.mark.parametrize("layer", ["output", "logits"])
def test_they_are_the_differences_of_what_is_predicted(ops, loss_name, sizes, layer):
    case = make_case(sizes, ["tanh", "silu"][: len(sizes) - 2], loss_name, 7, ops=ops)
    found = of(case, layer).at(host(case.x))
    for i, e in enumerate(np.eye(sizes[0]) * 1e-5):
        ends = []
        for x in (case.x + ops.asarray(e), case.x - ops.asarray(e)):
            h = replace(case, x=x).tape().output
            ends.append(host(case.loss.prediction(ops, h) if layer == "output" else h))
        np.testing.assert_allclose(found[:, :, i], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_weights_of_rows_do_not_count(loss_name):
    case = make_case((3, 4, 2), ["tanh"], loss_name, 5)
    weighted = Jacobian.of_layer(case.net, Weighted(case.loss, "float64"), case.theta, "output")
    same(weighted.at(case.x), of(case, "output").at(case.x))


def test_rows_are_fewer_where_a_row_is_large(monkeypatch):
    case = make_case((3, 4, 2), ["tanh"], "squared_error", 1)
    assert of(case, "output").rows == module.CHUNK
    monkeypatch.setattr(module, "NUMBERS", 50)
    assert of(case, "output").rows == 50 // (3 * 2 + 2 * 4)
    monkeypatch.setattr(module, "NUMBERS", 1)
    assert of(case, "output").rows == 1


def test_hidden_layers_are_refused():
    case = make_case((3, 4, 2), ["tanh"], "squared_error", 1)
    with pytest.raises(ConfigError, match=r"--layer code: --jacobian .* output or logits"):
        of(case, "code")
    close(of(case, "2").at(case.x), of(case, "logits").at(case.x))  # the last layer has no f
