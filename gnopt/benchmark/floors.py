"""The least work of an optimizer's average update by phase: the formulas of ``flops`` at the
optimizer's settings.
"""

from __future__ import annotations

from typing import Any

from gnopt.benchmark import flops
from gnopt.optimizers import Optimizer
from gnopt.optimizers.conjugate_gradient import GaussNewtonCG
from gnopt.optimizers.preconditioner import EARLY
from gnopt.optimizers.second_order import SecondOrder

Floor = dict[str, float]  # phase → flops; phases without products are not in it


def output_factors(
    name: str, settings: dict[str, Any], sizes: flops.Sizes, rows: float, loss: Any
) -> float:
    """Flops of one set of output factors (or diagonals) by the curvature ``name`` from these
    rows.
    """
    rank, columns = loss.rank(sizes[-1]), settings.get("columns", 0)
    if name == "kfra":
        return flops.kfra_factors(sizes, rows, loss.diagonal)
    if name == "kflr" and not 0 < columns < rank:
        return flops.kflr_factors(sizes, rows, rank, loss.diagonal)
    if name == "kflr":
        return flops.column_factors(sizes, rows, columns, output=not loss.diagonal)
    if name == "diagonal_gn":
        return columns * flops.diagonal_scales(sizes, rows)
    samples = settings.get("samples", 1)
    found = flops.column_factors(sizes, rows, samples)
    if name == "ekfac":
        found += samples * flops.rotated_scales(sizes, rows, diagonal=False)
    return found


def _second_order(optimizer: SecondOrder, rows: int) -> Floor:
    problem, cfg, curvature = optimizer.problem, optimizer.settings, optimizer.curvature
    sizes, loss = problem.net.sizes, problem.loss
    n = optimizer.preconditioner.rows(rows, EARLY + 1)
    m = optimizer.model_rows(rows, rows)
    own = output_factors(curvature.name, cfg, sizes, n, loss)
    if curvature.basis == "identity":
        return {
            "statistics": own / cfg["factor_period"],
            "model": flops.quadratic_model(sizes, m, 1 + len(cfg["directions"])),
        }
    diagonal = optimizer.preconditioner.diagonal
    eigen = optimizer.preconditioner.eigen
    inverses = flops.eigenbases(sizes, diagonal) if eigen else flops.cholesky(sizes, diagonal)
    ranks = optimizer.preconditioner.ranks
    inverses += flops.sketches(sizes, ranks)
    inputs = flops.input_factors(sizes, n, first_known=cfg["input_updates"] > 0)
    return {
        "statistics": (inputs + own) / cfg["factor_period"],
        "inverses": inverses / cfg["inverse_period"],
        "solve": flops.solve(sizes, diagonal, 2 if eigen else 1, ranks),
        "model": flops.quadratic_model(sizes, m, 1 + len(cfg["directions"])),
    }


def _conjugate_gradients(optimizer: GaussNewtonCG, rows: int) -> Floor:
    cfg, sizes, loss = optimizer.settings, optimizer.problem.net.sizes, optimizer.problem.loss
    products, m = cfg["iterations"] + 1, cfg["product_rows"] * rows
    floor = {
        "passes": flops.backward(sizes, rows) + 2.0 * flops.forward(sizes, rows),  # one to judge
        "model": products * flops.gn_vector(sizes, m),
    }
    if optimizer.factors is not None:
        diagonal = optimizer.factors.diagonal
        settings = optimizer.factors.settings
        floor["statistics"] = flops.input_factors(sizes, m) + output_factors(
            cfg["preconditioner"], settings, sizes, m, loss
        )
        floor["inverses"] = flops.cholesky(sizes, diagonal)
        floor["solve"] = products * flops.solve(sizes, diagonal)
    return floor


def floor(optimizer: Optimizer, rows: int) -> Floor:
    """Flops by phase of an update with ``rows`` rows, averaged over the periods of a run that is
    past its start.
    """
    sizes = optimizer.problem.net.sizes
    found = {"passes": flops.forward(sizes, rows) + flops.backward(sizes, rows)}
    if isinstance(optimizer, SecondOrder):
        found |= _second_order(optimizer, rows)
    elif isinstance(optimizer, GaussNewtonCG):
        found |= _conjugate_gradients(optimizer, rows)
    return found
