"""Who fits a small net, from the same initial weights and in the same seconds of the processor."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gnopt import optimizers
from gnopt.curvature.exact import root_jacobian
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import get_backend
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import get_loss
from gnopt.engine.network import Network, forward, gradient
from small_nets.problems import Problem

T = TypeVar("T")
EVALUATIONS = 10**6  # more than any budget of seconds allows


@dataclass(frozen=True)
class Fit:
    """Mean squared errors on the rows fitted and on the test rows, seconds of the processor, and
    updates or evaluations.
    """

    train: float
    test: float
    seconds: float
    steps: int


class TimeOver(Exception):
    """The seconds are used up."""


class Contest:
    """One problem with the initial weights of one seed (Glorot & Bengio 2010)."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        layers = [get_activation("tanh")] * len(problem.function.hidden)
        self.net = Network(
            problem.sizes, [*layers, get_activation("identity")], get_backend("cpu"), "float64"
        )
        draw = np.random.default_rng(seed)
        self.start: np.ndarray = initialize(self.net.sizes, "glorot", draw, self.net.dtype)

    def error(self, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        """Return the mean squared error of weights θ."""
        residuals = forward(self.net, self.net.views(theta), x).output - y
        return float((residuals**2).mean())

    def fit(self, theta: np.ndarray, seconds: float, steps: int) -> Fit:
        """Return a fit with these weights."""
        p = self.problem
        return Fit(
            self.error(theta, p.x, p.y), self.error(theta, p.test_x, p.test_y), seconds, steps
        )

    # ---- gnopt -----------------------------------------------------------------------------------

    def gnopt(self, updates: int, **options: object) -> Fit:
        """Make updates of levenberg_marquardt."""
        p = self.problem
        facts = optimizers.Problem(self.net, get_loss("squared_error"), 0, len(p.x))
        settings = optimizers.get_method("levenberg_marquardt").settings.make(options)
        method = optimizers.make("levenberg_marquardt", facts, settings)
        theta, begun = self.start.copy(), time.process_time()
        state, step = method.init(theta), 0
        while step < updates and not method.finished(state):
            step += 1
            method.update(theta, state, p.x, p.y, step)
        return self.fit(theta, time.process_time() - begun, step)

    # ---- others, for as many seconds -------------------------------------------------------------

    def minpack(self, seconds: float) -> Fit:
        """Run scipy.optimize.least_squares(method="lm") with the exact Jacobian."""
        from scipy.optimize import least_squares

        p, ones = self.problem, np.ones((1, len(self.problem.x), 1))

        def residuals(theta: np.ndarray) -> np.ndarray:
            h: np.ndarray = forward(self.net, self.net.views(theta), p.x).output
            return np.asarray((h - p.y).ravel())

        def jacobian(theta: np.ndarray) -> np.ndarray:
            W = self.net.views(theta)
            J = root_jacobian(self.net, W, forward(self.net, W, p.x), ones)
            return np.asarray(J.T)

        def run(watched: Callable[[np.ndarray], np.ndarray]) -> None:
            least_squares(
                watched, self.start, jacobian, method="lm",
                ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=EVALUATIONS,
            )  # fmt: skip

        return self._within(seconds, residuals, lambda r: float(r @ r), run)

    def lbfgs(self, seconds: float) -> Fit:
        """Run scipy.optimize.minimize(method="L-BFGS-B")."""
        from scipy.optimize import minimize

        p = self.problem

        def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
            W, out = self.net.views(theta), np.empty_like(theta)
            tape = forward(self.net, W, p.x)
            residuals = tape.output - p.y
            gradient(self.net, W, tape, residuals / len(p.x), self.net.views(out))
            return 0.5 * float((residuals**2).mean()), out

        def run(watched: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> None:
            minimize(
                watched, self.start, jac=True, method="L-BFGS-B",
                options={"maxiter": EVALUATIONS, "maxfun": EVALUATIONS, "ftol": 0, "gtol": 0},
            )  # fmt: skip

        return self._within(seconds, value, lambda found: found[0], run)

    def sklearn(self, iterations: int = 3000) -> Fit:
        """Run sklearn.neural_network.MLPRegressor(solver="lbfgs"), whose own weights it starts
        from.
        """
        from sklearn.neural_network import MLPRegressor

        p, begun = self.problem, time.process_time()
        model = MLPRegressor(
            hidden_layer_sizes=p.function.hidden, activation="tanh", solver="lbfgs", alpha=0.0,
            tol=0.0, max_iter=iterations, max_fun=EVALUATIONS, random_state=self.seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(p.x, p.y.ravel())
        seconds = time.process_time() - begun
        train, test = (
            float(((model.predict(x) - y.ravel()) ** 2).mean())
            for x, y in ((p.x, p.y), (p.test_x, p.test_y))
        )
        return Fit(train, test, seconds, model.n_iter_)

    def _within(
        self,
        seconds: float,
        evaluate: Callable[[np.ndarray], T],
        height: Callable[[T], float],
        run: Callable[[Callable[[np.ndarray], T]], None],
    ) -> Fit:
        """Run a minimiser until the seconds are over; return its best weights so far."""
        best, lowest, calls, begun = self.start.copy(), np.inf, 0, time.process_time()

        def watched(theta: np.ndarray) -> T:
            nonlocal best, lowest, calls
            if time.process_time() - begun > seconds:
                raise TimeOver
            found, calls = evaluate(theta), calls + 1
            if height(found) < lowest:
                best, lowest = theta.copy(), height(found)
            return found

        with suppress(TimeOver):
            run(watched)
        return self.fit(best, time.process_time() - begun, calls)
