"""Which rows a fraction of the training rows holds out for validation."""

from __future__ import annotations

import numpy as np

from gnopt.rng import generator

ROWS_OF_A_CLASS = 5  # on average; whole numbers that differ more often are no classes


def draw_held_out(
    rows: int, held: int, seed: int, key: np.ndarray | None, groups: np.ndarray | None
) -> np.ndarray:
    """Return whether each row is held out, (rows,) bool, for about ``held`` rows.

    ``key``, (rows,), is the target of each row: rows are held out evenly over its order, so that
    every class, or every range of numbers, gives its share; no class loses its last row. With
    ``groups``, (rows,), rows of one group stay together: whole groups are drawn until they hold as
    many rows, and ``key`` does not count.

    >>> held = draw_held_out(100, 10, 0, np.repeat([0, 1], 50), None)
    >>> int(held[:50].sum()), int(held[50:].sum())
    (5, 5)
    """
    draw = generator(seed, "held out")
    if groups is not None:
        return _whole_groups(groups, held, draw)
    order = draw.permutation(rows)
    if key is not None:
        order = order[np.argsort(key[order], kind="stable")]
    steps = np.floor(np.arange(rows + 1) * (held / rows) + draw.random())
    chosen = np.zeros(rows, dtype=bool)
    chosen[order[steps[1:] > steps[:-1]]] = True
    if key is not None and key.dtype.kind in "iub":
        values, labels = np.unique(key, return_inverse=True)
        if ROWS_OF_A_CLASS * len(values) > rows:  # they are amounts, not classes
            return chosen
        all_gone = np.bincount(labels, ~chosen) == 0
        chosen[all_gone[labels]] = False
    if not chosen.any():
        chosen[order[-1]] = True
    return chosen


def _whole_groups(groups: np.ndarray, held: int, draw: np.random.Generator) -> np.ndarray:
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(sizes), dtype=bool)
    total = 0
    for group in draw.permutation(len(sizes))[: len(sizes) - 1]:
        if total >= held:
            break
        if total and total + sizes[group] > 1.5 * held:
            continue  # too large a group for what is still wanted
        chosen[group] = True
        total += int(sizes[group])
    found: np.ndarray = chosen[number]
    return found


def mixed_order(rows: int, seed: int, key: np.ndarray | None) -> np.ndarray:
    """Return an order of the rows, (rows,), in which every run of rows has its share of each range
    of ``key``.

    Rows in the order of their keys are given the places (i φ) mod 1, which are spread evenly over
    every run of i (Weyl 1916).
    """
    draw = generator(seed, "mixed order")
    order = draw.permutation(rows)
    if key is not None:
        order = order[np.argsort(key[order], kind="stable")]
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    places = (np.arange(rows) * golden + draw.random()) % 1.0
    mixed: np.ndarray = order[np.argsort(places, kind="stable")]
    return mixed
