"""The records of settings: what each section of a configuration may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gnopt import optimizers
from gnopt.aims import AIMS, AUTO, PREDICTION, Aim
from gnopt.data.options import DataSettings
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays import Device
from gnopt.engine.initializers import INITIALIZERS
from gnopt.engine.losses import all_losses, get_loss
from gnopt.engine.predictions import Prediction
from gnopt.errors import ConfigError, SettingProblem
from gnopt.metrics import applicable, get_metric, scalar_metrics
from gnopt.options import REQUIRED, SIZE, Form, Option, Settings, option

DEFAULT_METHOD = optimizers.USUAL
OBJECTIVE = "objective"  # as a judge
# What flags and keyword arguments call the settings that are given most often.
SHORT_NAMES = {
    "data": "data.file",
    "target": "data.targets",
    "group": "data.group",
    "weights": "data.weights",
    "seed": "training.seed",
    "device": "training.device",
    "dtype": "training.dtype",
    "max_updates": "training.updates",
    "max_seconds": "training.max_seconds",
    "follow_links": "data.follow_links",
}
CLASS_WEIGHTS = '"none", "balanced" or a list of numbers > 0, one for each class'
DEVICE = Form(Device.parse, Device.expected)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """The section ``[network]``: layers, loss and initial weights."""

    hidden: list[int] = option(
        REQUIRED, "widths of the hidden layers; the output's is the data's", low=1
    )
    activation: str | list[str] = option(
        "tanh",
        'one for all hidden layers or one each; or "module:Name"',
        choices=all_activations,
        plug_ins=True,
    )
    loss: str = option(
        REQUIRED, 'output layer and loss; or "module:Name"', choices=all_losses, plug_ins=True
    )
    init: str = option(
        AUTO,
        "distribution of the initial weights; auto: as each layer's activation asks for",
        choices=INITIALIZERS,
    )
    output_bias: str = option(
        "data_mean",
        "start of the output bias: inverse link of the mean target or zero",
        choices=("data_mean", "zero"),
    )

    @property
    def activations(self) -> list[str]:
        """The name of each hidden layer's activation."""
        if isinstance(self.activation, str):
            return [self.activation] * len(self.hidden)
        return self.activation

    def contradictions(self) -> Iterator[SettingProblem]:
        """Yield the problems that no single value shows.

        These are plug-ins that cannot be loaded, and a number of activations that differs from the
        number of hidden layers.
        """
        for name in dict.fromkeys(self.activations):
            yield from _lookup_problem("network.activation", get_activation, name)
        yield from _lookup_problem("network.loss", get_loss, self.loss)
        if len(self.activations) != len(self.hidden):
            yield SettingProblem(
                "network.activation",
                f"network.activation = {self.activation} has {len(self.activations)} names for "
                f"{len(self.hidden)} hidden layers",
                "one for each, or one name for all",
            )


def _lookup_problem(key: str, find: Callable[[str], object], name: str) -> Iterator[SettingProblem]:
    try:
        find(name)
    except ConfigError as error:
        yield SettingProblem(key, f"{key}: {error}")


def _read_class_weight(value: str | float) -> str | float:
    """Read a word, or one number of a list."""
    if value in ("none", "balanced") or (not isinstance(value, str) and value > 0.0):
        return value
    raise ConfigError(f"{value!r}: expected {CLASS_WEIGHTS}")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """The section ``[training]``: how long, how often, in which numbers and on which device."""

    batch_size: int = option(1000, "rows per update (a method may let it grow from here)", low=1)
    updates: int = option(5000, "number of updates", low=0, free_on_resume=True)
    seed: int = option(
        0, "seed of the weights, the order of the rows and every sample", low=0, high=2**62
    )
    dtype: str = option(
        "float32",
        "precision of the whole computation; a method that needs float64 has it as its default",
        choices=("float32", "float64"),
    )
    device: str = option("cpu", "cpu, cuda or cuda:N", form=DEVICE, free_on_resume=True)
    evaluate_every: int = option(
        50,
        "most updates between evaluations: they are made after update 1, 2, 5, then each a fifth "
        "later than the one before, or so many updates later; 0 = only at start and end",
        low=0,
        free_on_resume=True,
    )
    evaluate_share: float = option(
        0.05,
        "most work (flops) that evaluations between start and end add to that of the updates; "
        "where they would add more, there are fewer; 0 = no limit",
        low=0,
        free_on_resume=True,
    )
    checkpoint_every: int = option(
        100, "updates between checkpoints; 0 = only at start and end", low=0, free_on_resume=True
    )
    keep_checkpoints: int = option(
        2, "how many of the newest checkpoints to keep, the best aside", low=1, free_on_resume=True
    )
    evaluate_rows: int = option(
        10000,
        "training rows that evaluations use, spread over the file; 0 = all; with validation rows, "
        "evaluations between start and end use no more than there are of these, or 1000",
        low=0,
        free_on_resume=True,
    )
    memory: int | str = option(
        "256MB", "most bytes of temporaries, such as KFLR's columns", form=SIZE
    )
    aim: str = option(
        PREDICTION.name,
        "what training is for; settings that are auto follow from it. "
        + "; ".join(f"{aim.name}: {aim.summary}" for aim in AIMS.values()),
        choices=tuple(AIMS),
    )
    patience: float | str = option(
        AUTO,
        "with validation rows, stop at an evaluation after update >= patience * best + 20, where "
        "best is the update of the lowest validation loss; without, where 50 updates change "
        "neither loss nor weights beyond rounding; 0 = never; auto: as training.aim says",
        choices=(AUTO,),
        low=0,
        free_on_resume=True,
    )
    metrics: list[str] | str = option(
        [],
        "columns of eval.csv beside the objective, for training and validation rows; "
        "a name, or a list of names",
        choices=scalar_metrics,
        free_on_resume=True,
    )
    judge: str = option(
        OBJECTIVE,
        "what decides which network is the best one and what patience watches: the objective or a "
        "metric, on the validation rows, or on the training rows where there are none",
        choices=lambda: {OBJECTIVE: None, **scalar_metrics()},
    )
    restarts: int = option(
        2,
        "most other starts, from weights scaled to the data, of a run whose loss has not left that "
        "of the best constant predictor after 50 updates (first order: 1000) and two passes; "
        "0 = only say so",
        low=0,
    )
    class_weights: str | list[float] = option(
        "none",
        "weight of each class in the objective: none; balanced: N / (C n_c) by the n_c training "
        "rows of each of C classes; or a list of numbers > 0, one for each class. Metrics count "
        "rows by data.weights alone",
        form=Form(_read_class_weight, lambda: CLASS_WEIGHTS),
    )
    max_seconds: float = option(
        0.0,
        "stop after so many seconds of training, evaluation aside; 0 = never",
        low=0,
        free_on_resume=True,
    )
    members: int = option(
        1, "networks of an ensemble, trained with the seeds from training.seed on", low=1, high=1000
    )
    folds: int = option(
        0,
        "cross-validation: train one member for each of so many folds of the training rows, which "
        "the member does not see and is validated on; 0 = no folds",
        low=0,
        high=1000,
    )
    member_rows: str = option(
        "all",
        "training rows of each member: all; bootstrap: as many, drawn with replacement",
        choices=("all", "bootstrap"),
    )

    @property
    def networks(self) -> int:
        """How many networks are trained: more than one for an ensemble."""
        return self.folds or self.members

    def contradictions(self, data: DataSettings) -> Iterator[SettingProblem]:
        """Yield the problems of an ensemble that no single value shows."""
        if self.folds == 1:
            yield SettingProblem("training.folds", "training.folds = 1", "0, or 2 folds at least")
        if self.folds and self.members not in (1, self.folds):
            yield SettingProblem(
                "training.members",
                f"training.members = {self.members} with training.folds = {self.folds}",
                f"{self.folds}, one member for each fold; or leave it out",
            )
        if self.member_rows != "all" and (self.folds or self.members == 1):
            yield SettingProblem(
                "training.member_rows",
                f'training.member_rows = "{self.member_rows}"',
                'training.members of 2 at least, and no training.folds; or "all"',
            )
        if self.folds or self.member_rows != "all":
            yield from self._problems_of_rows(data)

    def _problems_of_rows(self, data: DataSettings) -> Iterator[SettingProblem]:
        """Yield what the data section must not ask for where each member sees other rows."""
        if data.selection() is not None:
            yield SettingProblem(
                "data.rows",
                f'data.rows = "{data.rows}", but the ensemble chooses the rows of each member',
                '"all"',
            )
        if data.standardizes_targets():
            yield SettingProblem(
                "data.standardize",
                "data.standardize = true for an autoencoder whose members see other rows: each "
                "would standardise its targets by its own",
                "false",
            )

    @property
    def measured(self) -> list[str]:
        """The names of all metrics that an evaluation computes, each once."""
        names = [self.metrics] if isinstance(self.metrics, str) else self.metrics
        judge = [] if self.judge == OBJECTIVE else [self.judge]
        return list(dict.fromkeys([*names, *judge]))

    def metric_problems(self, kinds: Sequence[type[Prediction]]) -> Iterator[SettingProblem]:
        """Yield a problem for each chosen metric that scores none of these kinds of predictions."""
        known = {name: None for kind in kinds for name in applicable(kind)}
        expected = [name for name in known if get_metric(name).scalar]
        for name in self.measured:
            if name not in known:
                key = "training.judge" if name == self.judge else "training.metrics"
                yield SettingProblem(
                    key,
                    f"{key}: {name} does not apply to what this loss predicts",
                    ", ".join(expected) or "none: no metric applies",
                )

    @property
    def purpose(self) -> Aim:
        """The aim with what follows from it."""
        return AIMS[self.aim]

    @property
    def longest_wait(self) -> float:
        """The factor of patience that holds; 0 = never stop early."""
        return float(self.purpose.choose("patience", self.patience))


@dataclass(frozen=True, kw_only=True)
class MethodChoice(Settings):
    """The one key of the section ``[optimizer]`` that is not an option of the method."""

    method: str = option(
        DEFAULT_METHOD,
        "how weights are updated; auto: by the size of the network and the data, said in the log",
        choices=optimizers.names,
    )


def sections(method: str) -> dict[str, tuple[Option, ...]]:
    """Section → its options, those of [optimizer] being the method's."""
    of_method = optimizers.options_of(method) if method in optimizers.names() else ()
    return {
        "data": DataSettings.options(),
        "network": NetworkSettings.options(),
        "optimizer": (*MethodChoice.options(), *of_method),
        "training": TrainingSettings.options(),
    }
