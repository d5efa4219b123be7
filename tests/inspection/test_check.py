"""``--check`` passes what is right and catches what is wrong, in plug-ins and in the package
itself.
"""

from dataclasses import replace

import numpy as np
import pytest
from inspection_tools import subject_of
from plug_in_tools import module_of
from reference import make_case

from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.losses.binary_mixture import BinaryMixture
from gnopt.engine.losses.poisson import Poisson
from gnopt.engine.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from gnopt.engine.losses.squared_error import SquaredError
from gnopt.engine.network import Network
from gnopt.errors import CheckFailed
from gnopt.inspection.check import check, refuse_failures
from gnopt.inspection.subject import take_snapshot

StudentT = module_of("student_t").StudentT


def verdicts(loss, activations=("tanh",), seed=0, name="squared_error"):
    """Every verdict on a small net with this loss, trained on targets that suit it."""
    case = make_case(
        (4, *[5] * len(activations), 3), ("tanh",) * len(activations), name, rows=12, seed=seed
    )
    subject = subject_of(case)
    subject.loss = loss
    known = [get_activation(f) if isinstance(f, str) else f for f in (*activations, "identity")]
    subject.net = Network(case.net.sizes, known, case.net.ops, "float64")
    return check(take_snapshot(subject, subject.weights(None)))


def failed(found):
    return {v.check for v in found if not v.passed}


def test_every_loss_passes(loss_name):
    from gnopt.engine.losses import get_loss

    found = verdicts(get_loss(loss_name), name=loss_name)
    assert not failed(found), [v for v in found if not v.passed]
    refuse_failures(found)
    assert len(found) > 20


def test_every_activation_passes():
    found = verdicts(SquaredError(), tuple(all_activations()))
    assert not failed(found), [v for v in found if not v.passed]


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_the_theorem_is_checked_where_it_holds(name):
    found = verdicts(SoftmaxCrossEntropy(), (name, name), name="softmax_cross_entropy")
    assert not failed(found)
    assert next(v for v in found if v.check.startswith("theorem")).error is not None


def test_a_plug_in_that_is_not_convex_passes():
    found = verdicts(StudentT())
    assert not failed(found), [v for v in found if not v.passed]
    assert next(v for v in found if "against the Hessian" in v.check).error < 1e-5


# ---- what is wrong is found ----------------------------------------------------------------------


def changed(base, **methods):
    """An instance of ``base`` with some methods replaced."""
    return type("Changed", (base,), {"name": "changed", **methods})()


def test_a_wrong_gradient_fails():
    for base in (StudentT, SquaredError):
        found = verdicts(
            changed(
                base,
                gradient=lambda self, ops, h, y, base=base: 1.01 * base.gradient(self, ops, h, y),
            )
        )
        assert "gradient = dE/dh" in failed(found)
        with pytest.raises(CheckFailed, match=r"checks failed: .*gradient = dE/dh"):
            refuse_failures(found)


def test_a_wrong_gn_matrix_of_a_convex_loss_fails():
    wrong = changed(
        SoftmaxCrossEntropy,
        gn_matrix=lambda self, ops, h, y: 1.1 * SoftmaxCrossEntropy.gn_matrix(self, ops, h, y),
    )
    found = failed(verdicts(wrong, name="softmax_cross_entropy"))
    assert {
        "gn_matrix against the Hessian",
        "gn_product = gn_matrix v",
        "gn_root · gn_rootᵀ = gn_matrix",
    } <= found
    doubled = changed(
        Poisson, gn_diagonal=lambda self, ops, h, y: 2.0 * Poisson.gn_diagonal(self, ops, h, y)
    )
    assert "gn_matrix against the Hessian" in failed(verdicts(doubled, name="poisson"))


def test_a_wrong_gn_matrix_of_a_loss_that_is_not_convex_fails():
    wrong = changed(
        StudentT, gn_diagonal=lambda self, ops, h, y: 1.2 * StudentT.gn_diagonal(self, ops, h, y)
    )
    assert failed(verdicts(wrong)) == {"gn_matrix against the Hessian"}
    indefinite = changed(
        StudentT,
        gn_diagonal=lambda self, ops, h, y: StudentT.hessian_matrix(self, ops, h, y).diagonal(
            axis1=1, axis2=2
        ),
    )
    assert "gn_matrix symmetric, positive semi-definite" in failed(verdicts(indefinite))
    skewed = changed(
        BinaryMixture,
        gn_matrix=lambda self, ops, h, y: (
            BinaryMixture.gn_matrix(self, ops, h, y)
            + np.array([[0.0, 0.1, 0.0], [-0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])
        ),
    )
    assert "gn_matrix symmetric, positive semi-definite" in failed(
        verdicts(skewed, name="binary_mixture")
    )


def test_a_wrong_hessian_root_mean_product_or_sampling_fails():
    for name, method, expected in (
        (
            "hessian_matrix",
            lambda self, ops, h, y: StudentT.hessian_matrix(self, ops, h, y) * 0.9,
            "hessian_matrix = d gradient / dh",
        ),
        (
            "gn_mean",
            lambda self, ops, h, y: StudentT.gn_diagonal(self, ops, h, y).sum(axis=0),
            "gn_mean = mean of gn_matrix",
        ),
        ("gn_product", lambda self, ops, h, y, v: v, "gn_product = gn_matrix v"),
        (
            "sample",
            lambda self, ops, h, rng: h + rng.standard_t(1.5, h.shape),
            "sampled gradients: mean 0, second moment = mean Hessian (5 standard errors)",
        ),
        ("rank", lambda self, outputs: 2, "gn_root · gn_rootᵀ = gn_matrix"),
    ):
        assert expected in failed(verdicts(changed(StudentT, **{name: method}))), name


def test_what_raises_or_has_the_wrong_shape_fails_with_the_reason():
    def broken(self, ops, h, y):
        raise ValueError("no such thing")

    found = verdicts(changed(SquaredError, value=broken))
    reason = next(v.reason for v in found if v.check == "gradient = dE/dh")
    assert reason == "ValueError: no such thing"
    summed = changed(
        SquaredError, value=lambda self, ops, h, y: SquaredError.value(self, ops, h, y).sum()
    )
    assert "shapes of value and gradient" in failed(verdicts(summed))
    overflowing = changed(
        SquaredError,
        gradient=lambda self, ops, h, y: (h - y) * np.where(np.abs(h) > 1e3, np.inf, 1.0),
    )
    assert "finite up to |h| = 1e4" in failed(verdicts(overflowing))


def test_wrong_activations_fail():
    tanh, relu = get_activation("tanh"), get_activation("relu")
    for wrong, expected in (
        (
            replace(tanh, name="a", df=lambda ops, h, a, out: np.subtract(1.0, a, out=out)),
            "f' = d f / d h",
        ),
        (replace(tanh, name="b", d2f=lambda ops, h, a: -a * (1.0 - a * a)), "f'' = d f' / d h"),
        (replace(tanh, name="c", piecewise_linear=True), "piecewise_linear: f'' = 0"),
        (
            replace(relu, name="d", df=lambda ops, h, a, out: np.multiply(h > 0.0, 1.0, out=out)),
            "f' = d f / d h",
        ),
        (
            replace(
                tanh, name="e", f=lambda ops, h, out: np.divide(np.sinh(h), np.cosh(h), out=out)
            ),
            "finite up to |h| = 10000",
        ),
    ):
        assert expected in failed(verdicts(SquaredError(), (wrong,))), wrong.name
