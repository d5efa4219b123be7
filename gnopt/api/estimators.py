"""`GnoptRegressor` and `GnoptClassifier`: networks as estimators of scikit-learn.

This module needs scikit-learn and is imported when one of the two is used first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gnopt.api.fitting import fit_data
from gnopt.api.keywords import flags_of
from gnopt.api.memory_data import MemoryData, is_frame
from gnopt.api.model import Model
from gnopt.engine.losses import loss_for
from gnopt.errors import GnoptError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_array,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "GnoptRegressor and GnoptClassifier need scikit-learn 1.6 or newer: "
        "pip install 'gnopt[sklearn]'"
    ) from error

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

_SEEDS = 2**31 - 1


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators have in common.

    Parameters that are None are left to the data, or to the default of the configuration.
    ``settings`` takes every other setting, as ``{"section__key": value}``.
    """

    def __init__(
        self,
        *,
        hidden: list[int] | None = None,
        activation: str | None = None,
        loss: str | None = None,
        method: str | None = None,
        weight_decay: float | str | None = None,
        validation: float | None = None,
        max_updates: int | None = None,
        max_seconds: float | None = None,
        members: int | None = None,
        dtype: str = "float64",
        random_state: int | np.random.RandomState | None = None,
        settings: Mapping[str, object] | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.loss = loss
        self.method = method
        self.weight_decay = weight_decay
        self.validation = validation
        self.max_updates = max_updates
        self.max_seconds = max_seconds
        self.members = members
        self.dtype = dtype
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def _fit(
        self,
        x: Any,
        y: np.ndarray,
        sample_weight: ArrayLike | None,
        loss: str,
        class_names: list[str],
    ) -> Self:
        """Train on checked rows and keep the network as ``model_``."""
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, x, dtype=np.float64, ensure_non_negative=True
            )
            counts = weights > 0.0
            x = x.loc[counts] if is_frame(x) else x[counts]
            y, weights = y[counts], weights[counts]
            if (weights == weights[:1]).all():
                weights = None
        chosen: dict[str, object] = {
            "hidden": self.hidden,
            "activation": self.activation,
            "method": self.method,
            "weight_decay": self.weight_decay,
            "validation": self.validation,
            "max_updates": self.max_updates,
            "max_seconds": self.max_seconds,
            "members": self.members,
            "dtype": self.dtype,
            "seed": self._seed(),
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        given |= {"loss": self.loss or loss, **(self.settings or {})}
        with _as_value_errors():
            data = MemoryData.of(x, y, weights, class_names=class_names)
            self.model_: Model = fit_data(data, flags_of(given), verbose=self.verbose)
        return self

    def _seed(self) -> int | None:
        if self.random_state is None or isinstance(self.random_state, (int, np.integer)):
            return None if self.random_state is None else int(self.random_state)
        return int(check_random_state(self.random_state).randint(_SEEDS))

    def _rows(self, x: Any) -> Any:
        """Check new rows; a data frame stays one where the network was trained with one."""
        check_is_fitted(self)
        if is_frame(x) and self._of_frame:
            validate_data(self, x, reset=False, skip_check_array=True)
            return x
        return validate_data(self, x, reset=False, dtype=np.float64)

    def _new_rows(self, x: Any, y: Any, **checks: object) -> tuple[Any, Any]:
        """Check the rows to train with; a data frame with words, dates or gaps stays one.

        One that holds numbers alone is an array, so that both train the same network.
        """
        self._of_frame = is_frame(x) and y is not None and not _holds_numbers(x)
        if not self._of_frame:
            found: tuple[Any, Any] = validate_data(
                self, x, y, dtype=np.float64, ensure_min_samples=2, **checks
            )
            return found
        validate_data(self, x, skip_check_array=True)
        check_consistent_length(x, y)
        return x, y


class GnoptRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A feedforward network that predicts numbers, trained as `gnopt train` does.

    Rows are an array, or a data frame with words, dates and missing cells. Targets are (N,) or
    (N, K). The loss is "squared_error"; "poisson" is for counts. ``random_state`` None is seed 0.
    """

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train on the rows ``X`` with targets ``y`` and weights; return the estimator."""
        x, y = self._new_rows(X, y, multi_output=True, y_numeric=True)
        if self._of_frame:
            y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if np.ndim(y) == 2 and np.shape(y)[1] == 1:
            y = column_or_1d(y, warn=True)
        return self._fit(x, np.asarray(y, dtype=np.float64), sample_weight, "squared_error", [])

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the mean of each row, (N,) or (N, K), with ``return_std`` its deviation too."""
        x = self._rows(X)
        with _as_value_errors():
            if return_std:
                return self.model_.predict(x, return_std=True)
            return self.model_.predict(x)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class GnoptClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A feedforward network that tells classes apart, trained as `gnopt train` does.

    Rows are an array, or a data frame with words, dates and missing cells. The loss is that of two
    classes or of several. ``random_state`` None is seed 0. ``classes_`` are the labels, ascending.
    """

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train on the rows ``X`` with labels ``y`` and weights; return the estimator."""
        x, y = self._new_rows(X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds 1 class, {self.classes_[0]!r}; expected two at least")
        loss = loss_for("two classes" if len(self.classes_) == 2 else "classes").name
        return self._fit(x, labels, sample_weight, loss, [str(name) for name in self.classes_])

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row, (N,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (N, C), in the order of ``classes_``."""
        x = self._rows(X)
        with _as_value_errors():
            return self.model_.predict_proba(x)


def _holds_numbers(frame: pd.DataFrame) -> bool:
    """Return whether each cell is a number."""
    numbers = all(dtype.kind in "biuf" for dtype in frame.dtypes)
    return numbers and not frame.isna().to_numpy().any()


@contextlib.contextmanager
def _as_value_errors() -> Iterator[None]:
    """Raise what is wrong with data or settings as ValueError, as estimators are expected to."""
    try:
        yield
    except GnoptError as error:
        raise ValueError(str(error)) from error
