"""Every metric against a definition written out in NumPy or SciPy, or against numbers by hand; and
what all metrics have in common: chunks, order and weights.

The common tests find metrics and kinds of predictions by themselves, so that a new one is tested.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from draws import targets, width
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import get_loss
from gnopt.engine.predictions import Classes, Counts, Gaussian, Noise, Numbers, Residuals
from gnopt.errors import ConfigError
from gnopt.metrics import Score, Scorer, all_metrics, applicable, get_metric, usual
from gnopt.metrics import auc as auc_module

OPS = NumpyBackend()
ROWS = 60


def draw(kind, rng, rows=ROWS):
    """A prediction of this kind with a truth that has ties, and a column without variance."""
    if kind is Classes:
        logits = rng.integers(-3, 4, (rows, 4)).astype(float)
        logits[:, 3] = -9.0  # never predicted, hardly ever true
        truth = rng.integers(0, 3, rows)
        return Classes(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)), truth
    mean = np.exp(rng.normal(size=(rows, 3)))
    truth = rng.poisson(mean).astype(float)
    truth[:, 2] = 2.0
    if kind is Gaussian:
        return Gaussian(mean, rng.uniform(0.5, 2.0, mean.shape)), truth
    return kind(mean), truth


def take(prediction, rows):
    """The same prediction of some rows."""
    return type(prediction)(*(getattr(prediction, name)[rows] for name in vars(prediction)))


def two_classes(rng, rows=ROWS):
    p = rng.integers(1, 20, rows) / 20.0
    return Classes.of(np.stack([1.0 - p, p], axis=1)), rng.integers(0, 2, rows)


def score(name, prediction, truth, weight=None) -> Score:
    scorer = Scorer([get_metric(name)])
    scorer.add(prediction, truth, weight)
    return scorer.scores()[name]


def agree(one: Score, other: Score, tolerance=1e-12):
    for a, b in ((one.value, other.value), *zip(one.parts, other.parts, strict=True)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    if one.table is not None:
        np.testing.assert_allclose(one.table, other.table, rtol=tolerance)


KINDS = [Classes, Numbers, Gaussian, Counts]
CASES = [
    pytest.param(kind, name, id=f"{kind.__name__}-{name}")
    for kind in KINDS
    for name in applicable(kind)
]


# ---- what all metrics have in common -------------------------------------------------------------


def test_every_kind_has_metrics_and_every_metric_a_kind():
    for kind in KINDS:
        assert applicable(kind)
    for name, metric in all_metrics().items():
        assert any(metric.applies(kind) for kind in KINDS)
        assert metric.name == name
        assert metric.summary


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=4), seed=st.integers(0, 5))
def test_chunks_do_not_matter(kind, name, cuts, seed):
    prediction, truth = draw(kind, np.random.default_rng(seed))
    scorer = Scorer([get_metric(name)])
    for rows in np.split(np.arange(ROWS), sorted(cuts)):
        scorer.add(take(prediction, rows), truth[rows])
    agree(scorer.scores()[name], score(name, prediction, truth))


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(order=st.permutations(range(ROWS)))
def test_the_order_of_rows_does_not_matter(kind, name, order):
    prediction, truth = draw(kind, np.random.default_rng(0))
    agree(
        score(name, take(prediction, list(order)), truth[list(order)]),
        score(name, prediction, truth),
    )


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(weight=arrays(int, ROWS, elements=st.integers(0, 3)).filter(lambda w: w.sum() > 0))
def test_weight_2_is_the_row_twice(kind, name, weight):
    prediction, truth = draw(kind, np.random.default_rng(0))
    rows = np.repeat(np.arange(ROWS), weight)
    agree(
        score(name, prediction, truth, weight),
        score(name, take(prediction, rows), truth[rows]),
    )


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_no_rows_have_no_score(kind, name):
    prediction, truth = draw(kind, np.random.default_rng(0))
    empty = Scorer([get_metric(name)]).scores()[name]
    assert (empty.value, empty.parts, empty.table) == (None, (), None)
    weightless = score(name, prediction, truth, np.zeros(ROWS))
    assert weightless.value is None


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_perfect_prediction_costs_least(kind, name):
    metric = get_metric(name)
    rng = np.random.default_rng(0)
    prediction, truth = draw(kind, rng)
    if kind is Classes:
        perfect = Classes.of(np.where(np.arange(4) == truth[:, None], 1.0 - 3e-9, 1e-9))
    else:
        numbers = np.maximum(truth, 1e-12)
        perfect = kind(numbers, prediction.variance) if kind is Gaussian else kind(numbers)
    if metric.scalar and metric.best in ("highest", "lowest"):
        values = [score(name, p, truth).value for p in (perfect, prediction)]
        assert metric.cost(values[0]) < metric.cost(values[1])


def test_every_loss_predicts_what_it_says(ops, loss_name):
    """Outputs and targets of every loss, in both precisions, go through its metrics."""
    loss, rng = get_loss(loss_name), np.random.default_rng(0)
    for wanted in (1, 4):
        K = width(loss, wanted)
        kind = loss.predicts(K)
        for soft in (False, True):
            y = targets(loss, rng, ROWS, K, soft)
            h = rng.standard_normal((ROWS, K)).astype(np.float32)
            prediction = loss.predicted(ops, ops.asarray(h))
            assert type(prediction) is kind
            noised = Noise(np.ones(K)).added(prediction)
            scorer = Scorer(applicable(kind).values())
            truth = loss.truth(y)
            for rows in (slice(0, 20), slice(20, ROWS)):
                scorer.add(take(noised, rows), truth[rows])
            for name, found in scorer.scores().items():
                if get_metric(name).scalar:
                    assert math.isfinite(found.value), name


def test_predictions_are_those_of_the_loss(ops, loss_name):
    """Probabilities, means and rates are the loss's own `prediction`; the log loss its value."""
    loss, rng = get_loss(loss_name), np.random.default_rng(0)
    for wanted in (1, 4):
        K = width(loss, wanted)
        h = ops.asarray(rng.standard_normal((ROWS, K)))
        y = targets(loss, rng, ROWS, K)
        prediction = loss.predicted(ops, h)
        own = ops.to_host(loss.prediction(ops, h))
        if not isinstance(prediction, Classes):
            np.testing.assert_allclose(prediction.mean, own, rtol=1e-12)
            continue
        p = prediction.probabilities
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_allclose(p if own.shape[1] > 1 else p[:, 1:], own, rtol=1e-12)
        value = ops.to_host(loss.value(ops, h, ops.asarray(y))).mean()
        assert score("log_loss", prediction, loss.truth(y)).value == pytest.approx(value, 1e-12)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown metric 'acuracy'.*did you mean 'accuracy'"):
        get_metric("acuracy")


# ---- classes -------------------------------------------------------------------------------------

HAND = Classes.of(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]))
HAND_TRUTH = np.array([0, 1, 1, 2])


def test_numbers_by_hand():
    """Three of four rows are right; class 1 has recall 1/2, class 0 precision 1/2."""
    found = {name: score(name, HAND, HAND_TRUTH) for name in applicable(Classes)}
    assert found["accuracy"].value == 0.75
    assert found["balanced_accuracy"].parts == (1.0, 0.5, 1.0)
    assert found["balanced_accuracy"].value == pytest.approx(2.5 / 3)
    assert found["f1"].parts == pytest.approx((2 / 3, 2 / 3, 1.0))
    assert found["f1"].value == pytest.approx(7 / 9)
    assert found["confusion"].table.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    expected = -np.log([0.7, 0.6, 0.3, 0.6]).mean()
    assert found["log_loss"].value == pytest.approx(expected)
    # Bins (7/15, 8/15], (8/15, 9/15], (10/15, 11/15]: gaps 0 - .5, 2 - 1.2, 1 - .7.
    assert found["ece"].value == pytest.approx((0.5 + 0.8 + 0.3) / 4)
    # Class 0: scores .7 | .1 .5 .2; class 1: .6 .3 | .2 .2; class 2: .6 | .1 .3 .2: all in order.
    assert found["auc"].value == 1.0


def test_calibration_against_a_loop():
    prediction, truth = draw(Classes, np.random.default_rng(3), 500)
    top, right = prediction.probabilities.max(axis=1), prediction.labels == truth
    expected = 0.0
    for b in range(15):
        rows = (top > b / 15) & (top <= (b + 1) / 15)
        if rows.any():
            expected += rows.mean() * abs(right[rows].mean() - top[rows].mean())
    assert score("ece", prediction, truth).value == pytest.approx(expected)


def test_area_counts_pairs_and_half_of_ties():
    prediction, truth = two_classes(np.random.default_rng(1))
    p = prediction.probabilities[:, 1].round(9)
    up, down = p[truth == 1], p[truth == 0]
    u = stats.mannwhitneyu(up, down).statistic
    pairs = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    assert u == pairs.sum()  # two independent truths
    assert score("auc", prediction, truth).value == pytest.approx(pairs.mean())


def test_area_of_many_classes_is_the_mean_of_each_against_the_rest():
    rng = np.random.default_rng(2)
    prediction = Classes.of(rng.dirichlet(np.ones(4), ROWS // 2)[np.arange(ROWS) // 2])  # ties
    truth = rng.integers(0, 3, ROWS)
    found = score("auc", prediction, truth)
    areas = []
    for c in range(3):
        p = prediction.probabilities[:, c]
        pairs = [(a > b) + 0.5 * (a == b) for a in p[truth == c] for b in p[truth != c]]
        areas.append(np.mean(pairs))
    assert found.parts == pytest.approx((*areas, None))
    assert found.value == pytest.approx(np.mean(areas))


def test_area_tells_apart_what_rounds_to_1():
    logits = np.array([[0.0, 60.0], [0.0, 50.0]])
    two = Classes(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    assert (two.probabilities[:, 1] == 1.0).all()
    assert score("auc", two, np.array([1, 0])).value == 1.0
    three = np.pad(two.log_probabilities, ((0, 0), (1, 0)), constant_values=-99.0)
    assert score("auc", Classes(three), np.array([2, 1])).parts[2] == 1.0


def test_area_of_one_class_alone_is_not_defined():
    prediction, truth = two_classes(np.random.default_rng(0))
    assert score("auc", prediction, np.ones_like(truth)).value is None


def test_area_keeps_no_more_numbers_than_its_limit(monkeypatch):
    monkeypatch.setattr(auc_module, "MOST", ROWS)
    prediction, truth = two_classes(np.random.default_rng(0))
    assert score("auc", prediction, truth).value is not None
    scorer = Scorer([get_metric("auc")])
    for _ in range(2):
        scorer.add(prediction, truth)
    assert scorer.scores()["auc"].value is None


def test_classes_that_never_occur_are_left_out():
    p = np.full((2, 3), 0.01)
    p[:, 0] = 0.98
    found = score("balanced_accuracy", Classes.of(p), np.array([0, 1]))
    assert found.parts == (1.0, 0.0, None)
    assert found.value == 0.5
    assert score("f1", Classes.of(p), np.array([0, 1])).parts == (pytest.approx(2 / 3), 0.0, None)


def test_distributions_as_truth():
    p = np.array([[0.7, 0.3], [0.2, 0.8]])
    y = np.array([[1.0, 0.0], [0.4, 0.6]])
    expected = -(np.log(0.7) + 0.4 * np.log(0.2) + 0.6 * np.log(0.8)) / 2
    assert score("log_loss", Classes.of(p), y).value == pytest.approx(expected)
    assert score("accuracy", Classes.of(p), y).value == 1.0
    certain = Classes.of(np.array([[1.0, 0.0]]))
    assert score("log_loss", certain, np.array([[1.0, 0.0]])).value == 0.0
    assert score("log_loss", certain, np.array([1])).value == math.inf


# ---- numbers -------------------------------------------------------------------------------------


def test_errors_of_numbers_against_their_definitions():
    prediction, truth = draw(Numbers, np.random.default_rng(0))
    r = prediction.mean - truth
    rmse, mae = score("rmse", prediction, truth), score("mae", prediction, truth)
    assert rmse.value == pytest.approx(math.sqrt((r**2).mean()))
    assert rmse.parts == pytest.approx(np.sqrt((r**2).mean(axis=0)))
    assert mae.value == pytest.approx(np.abs(r).mean())
    assert mae.parts == pytest.approx(np.abs(r).mean(axis=0))
    explained = 1.0 - (r**2).sum(axis=0)[:2] / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)[:2]
    r2 = score("r2", prediction, truth)
    assert r2.parts == pytest.approx((*explained, None))  # the last target never varies
    assert r2.value == pytest.approx(explained.mean())


def test_explained_variance_far_from_zero():
    rng = np.random.default_rng(0)
    y = 1e9 + rng.normal(size=(1000, 1))
    prediction = Numbers(y + 0.1 * rng.normal(size=y.shape))
    scorer = Scorer([get_metric("r2")])
    for rows in np.split(np.arange(1000), 10):
        scorer.add(take(prediction, rows), y[rows])
    assert scorer.scores()["r2"].value == pytest.approx(0.99, abs=2e-3)
    constant = np.full((1000, 1), 0.1)
    assert score("r2", Numbers(constant), constant).value is None


def test_normal_numbers_against_scipy():
    prediction, truth = draw(Gaussian, np.random.default_rng(0))
    normal = stats.norm(prediction.mean, np.sqrt(prediction.variance))
    nll = score("nll", prediction, truth)
    assert nll.value == pytest.approx(-normal.logpdf(truth).sum(axis=1).mean())
    assert nll.parts == pytest.approx(-normal.logpdf(truth).mean(axis=0))
    low, high = normal.interval(0.9)
    inside = (low <= truth) & (truth <= high)
    coverage = score("coverage_90", prediction, truth)
    assert coverage.value == pytest.approx(inside.mean())
    assert coverage.parts == pytest.approx(inside.mean(axis=0))


def test_coverage_of_normal_numbers_is_what_it_says():
    y = np.random.default_rng(0).normal(size=(20_000, 1))
    prediction = Gaussian(np.zeros_like(y), np.ones_like(y))
    assert score("coverage_90", prediction, y).value == pytest.approx(0.9, abs=0.01)
    metric = get_metric("coverage_90")
    assert metric.cost(0.9) < metric.cost(0.85)
    assert metric.cost(0.9) < metric.cost(0.95)


@pytest.mark.parametrize("name", [n for n, m in applicable(Gaussian).items() if m.needs_noise])
def test_without_a_noise_its_metrics_are_not_defined(name):
    prediction, truth = draw(Gaussian, np.random.default_rng(0))
    assert score(name, Gaussian(prediction.mean), truth).value is None


def test_deviance_against_the_poisson_distribution():
    prediction, truth = draw(Counts, np.random.default_rng(0))
    perfect = stats.poisson(truth).logpmf(truth)
    lost = 2.0 * (perfect - stats.poisson(prediction.mean).logpmf(truth))
    found = score("deviance", prediction, truth)
    assert found.value == pytest.approx(lost.sum(axis=1).mean())
    assert found.parts == pytest.approx(lost.mean(axis=0))


def test_deviance_is_twice_the_gap_to_the_floor():
    loss, rng = get_loss("poisson"), np.random.default_rng(0)
    h, y = rng.normal(size=(ROWS, 2)), rng.poisson(2.0, (ROWS, 2)).astype(float)
    gap = loss.value(OPS, h, y).mean() - loss.floor(y).mean()
    found = score("deviance", loss.predicted(OPS, h), loss.truth(y)).value
    assert found == pytest.approx(2.0 * gap)


# ---- noise, and several networks -----------------------------------------------------------------


def test_noise_is_the_mean_square_of_residuals():
    rng = np.random.default_rng(0)
    y, weight = rng.normal(size=(ROWS, 2)), rng.integers(0, 3, ROWS)
    residuals, twice = Residuals(), Residuals()
    for rows in (slice(0, 10), slice(10, ROWS)):
        residuals.add(Numbers(np.ones((ROWS, 2))[rows]), y[rows], weight[rows])
    again = np.repeat(y, weight, axis=0)
    twice.add(Numbers(np.ones_like(again)), again)
    np.testing.assert_allclose(residuals.noise().variance, ((again - 1.0) ** 2).mean(axis=0))
    np.testing.assert_allclose(residuals.noise().variance, twice.noise().variance)
    scaled = Residuals()
    scaled.add(Numbers(np.ones((ROWS, 2))), y, 1e-6 * weight)
    np.testing.assert_allclose(scaled.noise().variance, twice.noise().variance)
    many = twice.noise(used=2.0 * len(again)).variance
    np.testing.assert_allclose(many, 100.0 * twice.noise().variance)
    share = len(again) / (len(again) - 7.0)
    np.testing.assert_allclose(residuals.noise(used=7.0).variance, share * twice.noise().variance)


def test_noise_is_no_less_than_the_digits_of_the_targets():
    residuals = Residuals()
    y = np.full((5, 1), 3.0, dtype=np.float32)
    residuals.add(Numbers(y.astype(float)), y)
    assert residuals.noise().variance == pytest.approx((3.0 * np.finfo(np.float32).eps) ** 2)
    assert (Residuals().noise().variance > 0.0).all()


def test_noise_goes_to_normal_numbers_that_have_none():
    noise, mean = Noise(np.array([1.0, 4.0])), np.zeros((3, 2))
    assert noise.added(Gaussian(mean)).variance.tolist() == [[1.0, 4.0]] * 3
    own = Gaussian(mean, np.full((3, 2), 9.0))
    assert noise.added(own) is own
    numbers = Numbers(mean)
    assert noise.added(numbers) is numbers


def test_the_average_of_classes_is_the_mean_probability():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), (4, 5))
    together = Classes.average([Classes.of(one) for one in p])
    np.testing.assert_allclose(together.probabilities, p.mean(axis=0))


def test_the_average_of_normal_numbers_is_the_moments_of_their_mixture():
    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(3, 2, 1)), rng.uniform(0.1, 1.0, (3, 2, 1))
    both = Gaussian.average([Gaussian(m, v) for m, v in zip(means, variances, strict=True)])
    second = (variances + means**2).mean(axis=0)
    np.testing.assert_allclose(both.mean, means.mean(axis=0))
    np.testing.assert_allclose(both.variance, second - means.mean(axis=0) ** 2)
    unknown = Gaussian.average([Gaussian(means[0], variances[0]), Gaussian(means[1])])
    assert unknown.variance is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_of_equals_is_the_same(kind):
    prediction, truth = draw(kind, np.random.default_rng(0))
    together = kind.average([prediction, prediction])
    assert type(together) is kind
    for name in applicable(kind):
        agree(score(name, together, truth), score(name, prediction, truth), 1e-9)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Classes, ["accuracy"]),
        (Numbers, ["r2", "rmse"]),
        (Gaussian, ["r2", "rmse"]),
        (Counts, ["deviance"]),
    ],
)
def test_each_kind_of_prediction_has_usual_metrics(kind, names):
    assert usual(kind) == names
    assert set(names) <= set(applicable(kind))
