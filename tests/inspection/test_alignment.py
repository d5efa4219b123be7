"""Alignment with the exact update against dense solves; surfaces."""

import numpy as np
import pytest
from inspection_tools import factors_of, look_at, silent, subject_of
from reference import close, make_case, settings, standard

from gnopt.inspection.alignment import Solve, align, natural_damping
from gnopt.inspection.inspect import InspectionRequest, inspect
from gnopt.inspection.subject import Weights, take_snapshot
from gnopt.inspection.surface import POINTS, Surface, surfaces

TIGHT = Solve((0.1,), 1e-12, 2000)


def cosine(u, v, M=None):
    Mv, Mu = (v, u) if M is None else (M @ v, M @ u)
    return u @ Mv / np.sqrt((u @ Mu) * (v @ Mv))


@pytest.mark.parametrize("loss_name", ["squared_error", "binary_cross_entropy", "binary_mixture"])
def test_cosines_agree_with_dense_solves(loss_name):
    case, truth = standard("tanh", loss_name, rows=20)
    at = look_at(case, weight_decay=0.0)
    factors = factors_of(at, "kfra", "kfac", "ekfac", "diagonal_gn")
    GN, g, lam = truth.gauss_newton(), truth.gradient(), 0.1
    exact = -np.linalg.solve(GN + lam * np.eye(len(g)), g)
    found = {(a.method, a.layer): a for a in align(at, factors, TIGHT, silent)}
    views = case.net.views
    for name, method in factors.methods.items():
        update = -np.concatenate(
            [b.prepare(lam)(g_l).ravel() for b, g_l in zip(method.blocks, views(g), strict=True)]
        )
        close(found[name, 0].cosine, cosine(update, exact), 1e-8)
        close(found[name, 0].gn_cosine, cosine(update, exact, GN), 1e-8)
        for l, (start, stop) in enumerate(
            zip(case.net.offsets, case.net.offsets[1:], strict=False), start=1
        ):
            part = slice(start, stop)
            close(found[name, l].cosine, cosine(update[part], exact[part]), 1e-8)
            close(found[name, l].gn_cosine, cosine(update[part], exact[part], GN[part, part]), 1e-8)
    close(found["gradient", 0].cosine, cosine(-g, exact), 1e-8)
    assert all(a.residual <= 1e-12 and a.damping == lam for a in found.values())


def test_much_damping_turns_every_update_into_the_gradient():
    at = look_at(standard("tanh", "squared_error", rows=20)[0])
    for a in align(at, factors_of(at, "kfra", "diagonal_gn"), Solve((1e8,), 1e-10, 100), silent):
        assert (a.method == "diagonal_gn" and a.cosine > 1 - 1e-9) or a.cosine > 0.99


def test_one_layer_with_squared_error_is_aligned_exactly():
    case = make_case((5, 3), (), "squared_error", rows=30)
    at = look_at(case)
    for a in align(at, factors_of(at, "kfra", "kflr"), Solve((1e-10,), 1e-12, 500), silent):
        assert a.method == "gradient" or a.cosine > 1 - 1e-6


def test_weight_decay_is_in_the_gradient():
    case, truth = standard("tanh", "squared_error", rows=20)
    at = look_at(case, eta=0.7)
    g, GN = truth.gradient() + 0.7 * case.theta, truth.gauss_newton()
    biases = case.net.bias_positions()
    g[biases] -= 0.7 * case.theta[biases]
    exact = -np.linalg.solve(GN + 0.1 * np.eye(len(g)), g)
    found = align(at, factors_of(at, "kfra"), TIGHT, silent)
    close(
        next(a.cosine for a in found if a.method == "gradient" and a.layer == 0),
        cosine(-g, exact),
        1e-8,
    )


def test_the_default_damping_follows_the_configuration():
    case, _truth = standard("tanh", "squared_error", rows=20)
    at = look_at(case)
    factors = factors_of(at, "kflr")
    blocks = factors.methods["kflr"].blocks
    share = settings("kflr").damping_a * settings("kflr").damping_g
    close(
        natural_damping(at, factors), share * sum(b.trace() for b in blocks) / case.net.size, 1e-12
    )
    for rule, adapted, expected in (
        ("fixed", None, 3.0),
        ("fixed", 7.0, 3.0),
        ("lm", None, 3.0),
        ("lm", 7.0, 7.0),
    ):
        subject = subject_of(case, damping_rule=rule, damping=3.0)
        at = take_snapshot(subject, Weights(subject.initial, 4, adapted))
        assert natural_damping(at, factors) == expected


def test_several_dampings_give_rows_for_each():
    case, _ = standard("tanh", "squared_error")
    found = inspect(
        subject_of(case),
        InspectionRequest("kfra", summary=False, solve=Solve((0.1, 1.0), 1e-8, 200)),
        silent,
    )
    assert sorted({a.damping for a in found.alignments}) == [0.1, 1.0]
    assert len(found.alignments) == 2 * 2 * 4
    assert not found.summaries
    assert found.alignments[0].row()["layer"] == "all"


# ---- surfaces ------------------------------------------------------------------------------------


def test_surface_is_the_objective():
    case, truth = standard("relu", "squared_error")
    at = look_at(case)
    found = surfaces(at, [1, 2, 3], reach=0.5)
    assert [s.layer for s in found] == [1, 2, 3, 0]
    middle = POINTS // 2
    for s in found:
        assert s.values.shape == (POINTS, POINTS)
        assert s.rows == 6
        close(s.values[middle, middle], truth.values.mean(), 1e-12)
    corner = case.theta.copy()
    from gnopt.inspection.surface import _directions

    for l, W in enumerate(case.net.views(corner), start=1):
        U, V = _directions(at, l)
        close(np.linalg.norm(U), np.linalg.norm(case.W[l - 1]), 1e-12)
        W += 0.5 * U - 0.5 * V
    moved = take_snapshot(at.subject, Weights(corner, 0))
    close(
        found[-1].values[0, -1],
        case.loss.value(case.net.ops, moved.tape.output, case.y).mean(),
        1e-12,
    )
    assert len(surfaces(at, [2])) == 1


def test_no_smooth_maxima_in_a_relu_net_with_two_layers():
    case = make_case((4, 10, 2), ("relu",), "squared_error", rows=40)
    for s in surfaces(look_at(case), [1, 2], reach=2.0):
        assert s.maxima == 0


def test_maxima_are_counted():
    at = np.linspace(-1, 1, 21)
    x, y = np.meshgrid(at, at)
    assert Surface(1, at, -(x**2) - y**2, 1).maxima == 1
    assert Surface(1, at, x**2 - y**2, 1).maxima == 0
