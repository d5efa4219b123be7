"""``--export``: every matrix against automatic differentiation, over all activations and losses."""

import h5py
import numpy as np
import pytest
from inspection_tools import look_at, silent, subject_of
from reference import close, distance, make_case, over_rows, point_loss, standard

from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.errors import ConfigError, GnoptError
from gnopt.inspection import dense
from gnopt.inspection.inspect import InspectionRequest, inspect

EXACT = "hessian,gauss_newton,kflr,kfra"
ALL = f"{EXACT},kfac"


def exported(path, case, curvature=ALL, layers="all", **settings):
    """What an export writes, HDF5 path → array, and its attributes."""
    inspect(
        subject_of(case, **settings),
        InspectionRequest(curvature, layers, summary=False, export=path),
        silent,
    )
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
        attributes = dict(file.attrs)
        samples = {
            name: item.attrs["samples"] for name in found if "samples" in (item := file[name]).attrs
        }
    return found, attributes, samples


def test_all_matrices_agree_with_automatic_differentiation(tmp_path, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name)
    asked = ALL if case.loss.likelihood else EXACT
    found, attributes, samples = exported(tmp_path / "e.h5", case, asked)
    gradient, hessian, gauss_newton = truth.gradient(), truth.hessian(), truth.gauss_newton()
    kflr, kfra = truth.kflr(), truth.kfra()
    np.testing.assert_array_equal(found["x"], case.x)
    np.testing.assert_array_equal(found["y"], case.y)
    case.check(attributes["objective"], truth.values.mean())
    for l in range(1, case.net.layers + 1):
        here = f"layers/{l}"
        np.testing.assert_array_equal(found[f"{here}/weight"], case.W[l - 1][:, :-1])
        np.testing.assert_array_equal(found[f"{here}/bias"], case.W[l - 1][:, -1])
        case.check(found[f"{here}/gradient"], case.net.views(gradient)[l - 1])
        case.check(found[f"{here}/A"], truth.input_factor(l))
        case.check(found[f"{here}/G/exact"], kflr[l - 1])
        case.check(found[f"{here}/G/kflr"], kflr[l - 1])
        case.check(found[f"{here}/G/kfra"], kfra[l - 1])
        case.check(found[f"{here}/hessian"], truth.block(hessian, l))
        case.check(found[f"{here}/gauss_newton"], truth.block(gauss_newton, l))
        np.testing.assert_array_equal(found[f"{here}/hessian"], found[f"{here}/hessian"].T)
        if case.loss.likelihood:
            assert samples[f"{here}/G/kfac"] == 1000
    assert attributes["rows"] == len(case.x)
    assert attributes["dtype"] == "float64"


def test_kfac_is_the_fisher_matrix(tmp_path, loss_name):
    case, truth = standard("tanh", loss_name)
    fisher = point_loss(loss_name).fisher
    if fisher(case.x[0, :1].repeat(case.net.sizes[-1])) is None:
        pytest.skip("the Fisher matrix of this loss is not known")
    found, _, _ = exported(tmp_path / "e.h5", case, "kfac")
    F = over_rows(fisher, truth.output)
    for l, S in enumerate(truth.S, start=1):
        expected = np.einsum("nki,nkj,njm->im", S, F, S) / len(S)
        assert distance(found[f"layers/{l}/G/kfac"], expected) < 0.15  # 6,000 draws


def test_small_memory_changes_nothing(tmp_path):
    case, _ = standard("tanh", "softmax_cross_entropy")
    whole, _, _ = exported(tmp_path / "e.h5", case)
    pieces, _, _ = exported(tmp_path / "p.h5", case, memory=1)
    for name, array in whole.items():
        close(pieces[name], array, 1e-12)


def test_only_the_requested_matrices_are_written(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("a dense block was computed")

    monkeypatch.setattr(dense, "mean_blocks", never)
    case, _ = standard("tanh", "squared_error")
    found, _, _ = exported(tmp_path / "e.h5", case, "kfra", layers="2")
    assert sorted(found) == [
        "layers/2/A",
        "layers/2/G/kfra",
        "layers/2/bias",
        "layers/2/gradient",
        "layers/2/weight",
        "x",
        "y",
    ]


def test_weight_decay_is_not_in_the_gradient(tmp_path):
    case, truth = standard("tanh", "squared_error")
    found, attributes, _ = exported(tmp_path / "e.h5", case, "kfra", eta=0.5)
    case.check(found["layers/1/gradient"], case.net.views(truth.gradient())[0])
    assert attributes["weight_decay"] == 0.5


def test_blocks_that_cannot_fit_are_refused_before_anything_happens(tmp_path, monkeypatch):
    case = make_case((4, 30, 3), ("tanh",), "squared_error", rows=3)
    monkeypatch.setattr(NumpyBackend, "free_memory", lambda self: 200_000)
    monkeypatch.setattr(
        "gnopt.inspection.inspect.take_snapshot", lambda *_: pytest.fail("something was computed")
    )
    path = tmp_path / "e.h5"
    with pytest.raises(GnoptError) as refusal:
        inspect(subject_of(case), InspectionRequest("hessian", export=path), silent)
    text = str(refusal.value)
    assert f"{150 * 150 * 8:,} bytes" in text
    assert "200,000" in text
    assert all(setting in text for setting in ("--layers", "network.hidden", "training.dtype"))
    assert not path.exists()


def test_wrong_choices_are_refused_with_the_known_ones():
    case, _ = standard("tanh", "squared_error")
    for request, part in (
        (InspectionRequest("kfla"), "did you mean 'kfra'"),
        (InspectionRequest(""), "expected names"),
        (InspectionRequest(layers="4"), "layers from 1 to 3"),
        (InspectionRequest(layers="x"), "--layers 'x'"),
    ):
        with pytest.raises(ConfigError, match=part.replace("?", r"\?")):
            inspect(subject_of(case), request, silent)


def test_sampling_methods_refuse_a_loss_that_is_no_likelihood():
    from gnopt.engine.losses.squared_error import SquaredError
    from gnopt.inspection.choices import choose_curvatures

    class Plain(SquaredError):
        name, likelihood = "plain", False

    assert "kfac" not in choose_curvatures(None, Plain()).methods
    assert "kfra" in choose_curvatures("all", Plain()).methods
    with pytest.raises(ConfigError, match="not a likelihood"):
        choose_curvatures("kfac", Plain())
    assert choose_curvatures("gauss_newton,kfra,kfra", Plain()) == choose_curvatures(
        "kfra,gauss_newton", Plain()
    )


def test_looking_changes_nothing():
    case, _ = standard("tanh", "squared_error")
    at = look_at(case)
    before = at.weights.theta.copy()
    found = inspect(at.subject, InspectionRequest(), silent)
    np.testing.assert_array_equal(at.weights.theta, before)
    assert len(found.summaries) == 1
