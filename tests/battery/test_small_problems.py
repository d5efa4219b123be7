"""Every curvature method trains the small problems of a battery at its defaults."""

import pytest

from battery.problems import COUNT, problem
from battery.runs import Entrant, Limit, run
from gnopt.curvature import all_curvatures
from gnopt.optimizers import methods

SEED = 2  # not the published battery
PROBLEMS, UPDATES = 14, 20
SMALL = [
    p
    for p in (problem(index, SEED) for index in range(COUNT))
    if p.parameters <= 5000 and p.rows <= 1000
][:PROBLEMS]


@pytest.mark.parametrize("method", [name for name in methods() if name in all_curvatures()])
def test_small_problems_are_trained(method):
    """No run of few updates dies or ends above the best constant predictor, by more than 1 %."""
    ended = [(p, run(p, Entrant(method), Limit(0.0, UPDATES))) for p in SMALL]
    bad = [
        f"{p.index}: {p}\n  {r.objective:.6g}, constant {r.constant:.6g}; {r.message}; {r.notes}"
        for p, r in ended
        if r.gap > 1.01 * r.constant_gap
    ]
    assert not bad, "\n".join(bad)
