"""The least work by formula against counts by hand, product by product."""

import pytest

from gnopt.benchmark import flops
from gnopt.benchmark.floors import floor
from peers.problems import FULL, NETS, Variant, experiment, optimizer

DEEP = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
TINY = (3, 4, 2, 5)  # augmented inputs 4, 5, 3


def test_passes_by_hand():
    weights = 4 * 4 + 2 * 5 + 5 * 3
    assert flops.forward(TINY, 7) == 2 * 7 * weights
    through = 2 * 7 * (2 * 4 + 5 * 2)  # δ through the weights of layers 2 and 3, not of layer 1
    assert flops.backward(TINY, 7) == 2 * 7 * weights + through
    assert flops.quadratic_model(TINY, 7, 3) == 3 * flops.backward(TINY, 7)
    assert flops.gn_vector(TINY, 7) == 2 * (2 * 7 * weights + through)


def test_factors_by_hand():
    assert flops.input_factors(TINY, 7) == 7 * (16 + 25 + 9)
    assert flops.input_factors(TINY, 7, first_known=True) == 7 * (25 + 9)
    # Layer 2 from layer 3 (5 above 2): G W is 2·5·5·2, its symmetric product with Wᵀ 5·2·2; then 2
    # above 4.
    assert flops.recursion(TINY, diagonal=False) == (100 + 20) + (2 * 2 * 2 * 4 + 2 * 4 * 4)
    assert flops.recursion(TINY, diagonal=True) == 20 + (32 + 32)
    assert flops.kfra_factors(TINY, 7, diagonal=True) == 7 * (16 + 4) + 84
    assert flops.kfra_factors(TINY, 7, diagonal=False) == 7 * (16 + 4 + 25) + 184
    one = 2 * 7 * (8 + 10) + 7 * (16 + 4 + 25)
    assert flops.column_factors(TINY, 7, 3) == 3 * one
    assert flops.column_factors(TINY, 7, 3, output=False) == 3 * (one - 7 * 25)


def test_exact_kflr_by_hand():
    # 5 columns: 5·2 through layer 3, moments in 2; 2·2 < 5, so the small matrices' roots; 2 columns
    # on to layer 1.
    dense = (
        7 * 25
        + 2 * 7 * 5 * (5 * 2)
        + 7 * 5 * 4
        + 7 * (5 * 4 + 9 * 8)
        + 2 * 7 * 2 * (2 * 4)
        + 7 * 2 * 16
    )
    assert flops.kflr_factors(TINY, 7, 5, diagonal=False) == dense
    assert flops.kflr_factors(TINY, 7, 5, diagonal=True) == dense - 7 * 25 - 2 * 7 * 5 * 10


def test_inverses_and_solves_by_hand():
    assert list(flops.factor_dimensions(TINY, diagonal=True)) == [4, 4, 5, 2, 3]
    assert flops.cholesky(TINY, diagonal=False) == pytest.approx((64 + 64 + 125 + 8 + 27 + 125) / 3)
    assert flops.explicit_inverses(TINY, diagonal=True) == pytest.approx(64 + 64 + 125 + 8 + 27)
    full = 2 * (4 * 4 * 8 + 2 * 5 * 7 + 5 * 3 * 8)
    assert flops.solve(TINY, diagonal=False) == full
    assert flops.solve(TINY, diagonal=True, sides=2) == 2 * (full - 2 * 5 * 5 * 3)


def test_full_kfra_update_of_the_deep_autoencoder():
    n = 1000
    parts = {
        "forward": (flops.forward(DEEP, n), 5.67),
        "backward": (flops.backward(DEEP, n), 9.76),
        "A": (flops.input_factors(DEEP, n), 3.25),
        "slopes": (flops.slopes(DEEP, n), 2.63),
        "recursion": (flops.recursion(DEEP, diagonal=True), 3.32),
        "cholesky": (flops.cholesky(DEEP, diagonal=True), 1.69),
        "solve": (flops.solve(DEEP, diagonal=True), 7.77),
        "model": (flops.quadratic_model(DEEP, n, 1), 9.76),
    }
    for name, (count, gflop) in parts.items():
        assert count == pytest.approx(gflop * 1e9, rel=5e-3), name
    assert sum(count for count, _ in parts.values()) == pytest.approx(43.8e9, rel=3e-3)
    assert flops.explicit_inverses(DEEP, diagonal=True) == pytest.approx(5.05e9, rel=2e-3)


def test_floor_of_methods_follows_their_settings():
    net = NETS["mnist10k"]
    base = experiment(net)
    try:
        full = floor(optimizer(base, net, Variant("kfra-full", "kfra", FULL)), 1000)
        half = floor(
            optimizer(
                base, net, Variant("half", "kfra", FULL | {"inverse_period": 2, "model_rows": 0.5})
            ),
            1000,
        )
        adam = floor(optimizer(base, net, Variant("adam", "adam")), 1000)
    finally:
        base.data.close()
    assert sum(full.values()) == pytest.approx(43.8e9, rel=3e-3)
    assert half["inverses"] == full["inverses"] / 2 and half["model"] == full["model"] / 2
    assert set(adam) == {"passes"}
    assert adam["passes"] == full["passes"]
