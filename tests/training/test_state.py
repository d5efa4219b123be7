"""A method's state as a tree and back: equal records, and damage that names its entry."""

from __future__ import annotations

import copy
import dataclasses
import operator
import re
from functools import reduce
from typing import Any

import numpy as np
import pytest
from reference import get_method, host, make_case, optimizer, settings

from gnopt.curvature.factors import Blocks, LowRank
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.training.state import from_tree, to_tree

OPS = NumpyBackend()
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "averaging": {"averaging": 0.9},
    "exact split": {"damping_split": "exact"},
    "diagonal blocks": {"factor_width": 4},
    "low rank": {"curvature_decay": 0.0},
    "one refresh": {"inverse_period": 1},
}


def after(ops, method_name, updates=3, names=("tanh", "relu"), rows=3, **changes):
    """A method with its state after some updates; so few rows that a factor may stay low rank."""
    case = make_case((12, 6, 5, 3), names, "binary_cross_entropy", rows, ops=ops)
    method = optimizer(case, method_name, settings(method_name, **changes))
    theta = case.theta.copy()
    state = method.init(theta)
    for k in range(1, updates + 1):
        method.update(theta, state, case.x, case.y, k)
    return case, method, theta, state


def assert_equal(one: Any, other: Any, where: str = "state") -> None:
    """Two values are of the same types, with equal numbers and arrays, down to the last bit."""
    assert type(one) is type(other), where
    if dataclasses.is_dataclass(one):
        for f in dataclasses.fields(one):
            assert_equal(getattr(one, f.name), getattr(other, f.name), f"{where}.{f.name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    elif hasattr(one, "dtype"):
        a, b = host(one), host(other)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert a.tobytes() == b.tobytes(), where
    else:
        assert one == other, where


def leaves(tree: Any) -> list[Any]:
    """Every array, number and None of a tree."""
    if isinstance(tree, (dict, list)):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [leaf for part in parts for leaf in leaves(part)]
    return [tree]


def usable(method_name: str, changes: dict[str, Any]) -> None:
    """Skip a method that does not have these options."""
    known = {option.name for option in get_method(method_name).settings.options()}
    if not set(changes) <= known:
        pytest.skip("not an option of this method")


# ---- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_comes_back_equal(ops, method_name, variant):
    usable(method_name, VARIANTS[variant])
    _, method, _, state = after(ops, method_name, **VARIANTS[variant])
    tree = to_tree(state, ops)
    assert all(leaf is None or isinstance(leaf, (int, float, np.ndarray)) for leaf in leaves(tree))
    assert_equal(from_tree(method.state_type, tree, ops), state)


def test_a_state_before_the_first_update_comes_back_equal(ops, method_name):
    _, method, _, state = after(ops, method_name, updates=0)
    assert_equal(from_tree(method.state_type, to_tree(state, ops), ops), state)


def test_a_method_goes_on_from_the_tree_bit_for_bit(ops, method_name):
    case, method, theta, state = after(ops, method_name)
    stored = copy.deepcopy(to_tree(state, ops))  # a tree shares the arrays of the host
    there = from_tree(method.state_type, stored, ops)
    again = theta.copy()
    ours = method.update(theta, state, case.x, case.y, 4)
    theirs = method.update(again, there, case.x, case.y, 4)
    np.testing.assert_equal(theirs, ours)
    assert_equal(again, theta)
    assert_equal(there, state)


def test_the_variants_hold_what_they_are_named_for():
    """Every form of a factor, and an average, is among the states that are sent round."""

    def A(**changes):
        block = after(OPS, "kfra", **changes)[-1].factors.blocks[0]
        return block.A

    assert isinstance(A(**VARIANTS["diagonal blocks"]), Blocks)
    assert isinstance(A(**VARIANTS["low rank"]), LowRank)
    exact = after(OPS, "kfra", **VARIANTS["exact split"])[-1]
    assert exact.factors.blocks[0].basis_A is not None
    assert after(OPS, "kfra", **VARIANTS["averaging"])[-1].average is not None


# ---- what does not fit ---------------------------------------------------------------------------


@pytest.fixture
def tree() -> dict[str, Any]:
    """The tree of a kfra state."""
    return to_tree(after(OPS, "kfra")[-1], OPS)


def read(tree: Any) -> Any:
    """The kfra state that a tree holds."""
    return from_tree(after(OPS, "kfra", updates=0)[1].state_type, tree, OPS)


def refused(tree: Any, text: str) -> None:
    """Assert that no state is read, for the reason ``text``."""
    with pytest.raises(ValueError, match=re.escape(text)):
        read(tree)


def test_a_missing_entry_is_named(tree):
    for path, owner, name in (
        ("damping", tree, "damping"),
        ("factors", tree, "factors"),
        ("factors/statistics", tree["factors"], "statistics"),
        ("factors/blocks/1/G", tree["factors"]["blocks"][1], "G"),
        ("factors/blocks/0/A/matrix", tree["factors"]["blocks"][0]["A"], "matrix"),
        ("growth", tree, "growth"),
    ):
        kept = owner.pop(name)
        refused(tree, f"no '{path}'")
        owner[name] = kept
    assert_equal(read(tree), after(OPS, "kfra")[-1])


def test_an_unknown_entry_is_named(tree):
    for path, owner in (
        ("stray", tree),
        ("factors/stray", tree["factors"]),
        ("factors/blocks/2/stray", tree["factors"]["blocks"][2]),
        ("growth/stray", tree["growth"]),
    ):
        owner["stray"] = 1.0
        refused(tree, f"unknown '{path}'")
        del owner["stray"]


@pytest.mark.parametrize(
    ("path", "expected", "wrong"),
    [
        ("growth", "a record", [1.0, None, [], "words", np.ones(2)]),
        ("factors", "a record", [1.0, None, [], "words", np.ones(2)]),
        ("factors/blocks", "a list", [3, None, {}, "words", np.ones(2)]),
        ("factors/blocks/0", "a record", [3, None, [], "words", np.ones(2)]),
        ("factors/blocks/0/A", "a record or nothing", [3, [], "words", np.ones((3, 3))]),
        ("factors/blocks/0/A/matrix", "an array", [3.0, None, [], {"rows": 1}, "words"]),
        ("damping", "a number", [None, True, [], {}, "words", np.ones(())]),
        ("accepted", "a whole number", [None, 1.0, [], {}, "words", np.ones(3)]),
        ("previous", "an array or nothing", [1.0, [1.0], {}, "words"]),
    ],
    ids=str,
)
def test_an_entry_of_the_wrong_form_is_named(tree, path, expected, wrong):
    *owners, name = [int(key) if key.isdigit() else key for key in path.split("/")]
    owner = reduce(operator.getitem, owners, tree)
    for value in wrong:
        owner[name] = value
        refused(tree, f"'{path}' is not {expected}")


def test_a_tree_that_is_no_group_is_refused():
    for tree in (None, 3.0, [], np.ones(2)):
        refused(tree, "'state' is not a record")


def test_an_entry_with_a_default_may_be_missing(tree):
    expected = copy.deepcopy(read(tree))
    expected.boost, expected.terms, expected.previous = 1.0, 0, None
    for name in ("boost", "terms", "previous"):
        del tree[name]
    assert_equal(read(tree), expected)


def test_reading_leaves_the_tree_as_it_is(tree):
    before = copy.deepcopy(tree)
    read(tree)
    assert_equal(list(tree), list(before))
    assert_equal(leaves(tree), leaves(before))
