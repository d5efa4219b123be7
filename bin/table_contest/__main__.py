"""Score gnopt, scikit-learn's MLP and its trees on tables by five folds; write a CSV.

``PYTHONPATH=bin python -m table_contest --out scores.csv [--tables wine] [--more F.csv:TARGET]``

gnopt is run as a user runs it: `gnopt train TABLE --target NAME` and `gnopt predict`, as processes
whose seconds of the processor count from their start. scikit-learn gets its inputs standardised,
missing cells as the median with an indicator, words one-hot; its seconds are those of fit.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDS = 5
ROOT = Path(__file__).parents[2]
# Tables of scikit-learn that hold no network address, and the target of each.
BUNDLED = {"diabetes": False, "digits": True, "breast_cancer": True, "wine": True}


@dataclass(frozen=True)
class Problem:
    """A table with the column to predict."""

    name: str
    frame: pd.DataFrame
    target: str
    classes: bool

    def folds(self) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Yield rows to train on and to score on."""
        from sklearn.model_selection import KFold, StratifiedKFold

        kind = StratifiedKFold if self.classes else KFold
        deal = kind(FOLDS, shuffle=True, random_state=0)
        for train, test in deal.split(self.frame, self.frame[self.target]):
            yield self.frame.iloc[train], self.frame.iloc[test]


def problems(names: list[str], more: list[str]) -> Iterator[Problem]:
    """Yield the tables that are asked for."""
    from sklearn import datasets

    for name in names:
        if name == "penguins":
            frame = pd.read_csv(ROOT / "datasets" / "penguins.csv", index_col=0)
            yield Problem(name, frame.reset_index(drop=True), "species", True)
            continue
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        frame = bunch.frame.copy()
        if BUNDLED[name]:
            frame["target"] = [f"class {k}" for k in bunch.target]
        yield Problem(name, frame, "target", BUNDLED[name])
    for text in more:
        path, _, target = text.rpartition(":")
        frame = pd.read_csv(path).dropna(subset=[target]).reset_index(drop=True)
        yield Problem(Path(path).stem, frame, target, frame[target].dtype.kind not in "fiu")


def score(problem: Problem, truth: pd.Series, predicted: pd.DataFrame) -> float:
    """Return the mean negative log-probability of the true class, or R² of numbers."""
    if not problem.classes:
        residual = truth.to_numpy(float) - predicted["prediction"].to_numpy(float)
        return float(1.0 - (residual**2).sum() / ((truth - truth.mean()) ** 2).sum())
    columns = [f"probability {word}" for word in truth.astype(str)]
    place = predicted.columns.get_indexer(pd.Index(columns))
    probability = predicted.to_numpy()[np.arange(len(truth)), place].astype(float)
    return float(-np.log(np.maximum(probability, 1e-15)).mean())


def run_gnopt(problem: Problem, train: pd.DataFrame, test: pd.DataFrame) -> tuple[float, float]:
    """Return the score and the seconds of the processor of `gnopt train`."""
    with tempfile.TemporaryDirectory(prefix="gnopt-tables-") as name:
        folder = Path(name)
        train.to_csv(folder / "train.csv", index=False)
        test.drop(columns=problem.target).to_csv(folder / "test.csv", index=False)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "gnopt", "train", "train.csv", "--target", problem.target]
        subprocess.run(
            [*command, "--out", "run", "-q"], cwd=folder, check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "gnopt", "predict", "run", "test.csv", "p.csv"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        predicted = pd.read_csv(folder / "p.csv")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return score(problem, test[problem.target], predicted), seconds


def run_sklearn(
    model: Callable[[bool], Any],
) -> Callable[[Problem, pd.DataFrame, pd.DataFrame], tuple[float, float]]:
    """Return what fits a model of scikit-learn and returns its score and seconds."""

    def run(problem: Problem, train: pd.DataFrame, test: pd.DataFrame) -> tuple[float, float]:
        x, y = train.drop(columns=problem.target), train[problem.target]
        estimator = model(problem.classes)
        start = time.process_time()
        estimator.fit(x, y)
        seconds = time.process_time() - start
        new = test.drop(columns=problem.target)
        if problem.classes:
            names = [f"probability {word}" for word in estimator.classes_]
            predicted = pd.DataFrame(estimator.predict_proba(new), columns=names)
        else:
            predicted = pd.DataFrame({"prediction": estimator.predict(new)})
        return score(problem, test[problem.target], predicted), seconds

    return run


def mlp(classes: bool) -> Any:
    """Return scikit-learn's MLP with its defaults, behind the usual preparation of columns."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("words", words, make_column_selector(dtype_exclude="number")),
        ],
        sparse_threshold=0,
    )
    if classes:
        return make_pipeline(columns, MLPClassifier(random_state=0))
    regressor = TransformedTargetRegressor(
        MLPRegressor(random_state=0), transformer=StandardScaler()
    )
    return make_pipeline(columns, regressor)


def trees(classes: bool) -> Any:
    """Return scikit-learn's gradient-boosted trees with their defaults."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", make_column_selector(dtype_include="number")),
            ("words", words, make_column_selector(dtype_exclude="number")),
        ]
    )
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return make_pipeline(columns, kind(random_state=0))


CONTESTANTS = {"gnopt": run_gnopt, "MLP": run_sklearn(mlp), "trees": run_sklearn(trees)}


def main() -> None:
    """Run the contest that the command line asks for."""
    parser = argparse.ArgumentParser(prog="table_contest", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tables.csv"))
    parser.add_argument("--tables", default=",".join(["penguins", *BUNDLED]))
    parser.add_argument("--more", nargs="*", default=[], metavar="FILE.csv:TARGET")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of scikit-learn's iterations
    with asked.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "program", "score", "mean", "error_of_mean", "cpu_seconds"])
        for problem in problems([n for n in asked.tables.split(",") if n], asked.more):
            folds = list(problem.folds())
            for name, run in CONTESTANTS.items():
                found = np.array([run(problem, *fold) for fold in folds])
                error = found[:, 0].std(ddof=1) / np.sqrt(len(found))
                kind = "log loss" if problem.classes else "R2"
                row = [found[:, 0].mean(), error, found[:, 1].mean()]
                writer.writerow([problem.name, name, kind, *(f"{v:.4g}" for v in row)])
                file.flush()
                print(
                    f"{problem.name:16}{name:8}{kind:10}{row[0]:.4f} ± {row[1]:.4f}  {row[2]:.1f} s"
                )


if __name__ == "__main__":
    main()
