"""gnopt: second-order training of feedforward networks, from the command line and from Python.

Notation, used by every module and file format (Botev, Ritter, Barber, ICML 2017):

=========  =====================================================  ====================
symbol     meaning                                                shape
=========  =====================================================  ====================
N          data points in the batch; rows are data points
x, a_0     input                                                  (N, D)
ā_l        activations with the unit term appended last           (N, d_l + 1)
W_l        augmented weights [weight, bias], l = 1..L             (d_l, d_{l-1} + 1)
h_l        pre-activations, h_l = ā_{l-1} W_lᵀ                    (N, d_l)
a_l        f_l(h_l); f_L is the identity                          (N, d_l)
E(h_L, y)  loss of one data point, summed over outputs            scalar
objective  mean of E over data points (+ ½ η ‖W‖²)                scalar
A_l        mean of ā_l ā_lᵀ                                       (d_l + 1, d_l + 1)
G_l        mean of the pre-activation Gauss-Newton matrices 𝒢_l   (d_l, d_l)
λ, α, μ    damping, step size, momentum; ρ the reduction ratio    scalars
=========  =====================================================  ====================

The package reads in the order of its imports: a module imports only from modules before it.

Reading order: ``errors`` → ``notes`` → ``machine`` → ``provenance`` → ``formatting`` → ``rng`` →
``files`` → ``sealed`` → ``toml`` → ``plug_ins`` → ``registry`` → ``options`` → ``aims`` →
``weighting`` → ``data`` → ``engine`` (network, losses) → ``metrics`` → ``curvature`` →
``optimizers`` → ``settings`` → ``deciding`` → ``config`` → ``method_options`` → ``training`` →
``export`` → ``workers`` → ``ensemble`` → ``api`` → ``inspection`` → ``compare`` → ``bench`` →
``plots`` → ``examples`` → ``cli``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gnopt.api.estimators import GnoptClassifier, GnoptRegressor
    from gnopt.api.fitting import fit
    from gnopt.api.model import Model, load

# The wheels of NumPy and SciPy each bring an OpenBLAS with threads of its own. These threads spin
# for about 25 ms after every call and take the cores from each other: with two threads on two cores
# an update was slower than with one. Threads that sleep at once make it 1.7 times as fast. OpenBLAS
# reads the variable when it is loaded, so it is set here, before anything imports NumPy.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")

__version__ = "0.1.0"

__all__ = ["GnoptClassifier", "GnoptRegressor", "Model", "__version__", "fit", "load"]

# Name → module. They are imported when they are used first, so that ``import gnopt`` stays quick.
_LAZY = {
    "fit": "gnopt.api.fitting",
    "load": "gnopt.api.model",
    "Model": "gnopt.api.model",
    "GnoptRegressor": "gnopt.api.estimators",
    "GnoptClassifier": "gnopt.api.estimators",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'gnopt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
