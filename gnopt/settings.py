"""The records of settings: what each section of a configuration may hold."""

from __future__ import annotations

from dataclasses import dataclass

from gnopt import optimizers, registry
from gnopt.data.options import DataSettings
from gnopt.engine.initializers import INITIALIZERS
from gnopt.options import REQUIRED, Option, Settings, option

DEFAULT_METHOD = "kfra"
PACKAGES = {
    "loss": ("gnopt.engine.losses", "LOSS"),
    "activation": ("gnopt.engine.activations", "ACTIVATION"),
}
PLUG_INS = {f"network.{name}" for name in PACKAGES}


def _activations() -> tuple[str, ...]:
    return tuple(registry.discover(*PACKAGES["activation"]))


def _losses() -> tuple[str, ...]:
    return tuple(registry.discover(*PACKAGES["loss"]))


def _initializers() -> tuple[str, ...]:
    return tuple(INITIALIZERS)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """The section ``[network]``: layers, loss and initial weights."""

    hidden: list[int] = option(
        REQUIRED, "widths of the hidden layers; the output's is the data's", low=1
    )
    activation: str | list[str] = option(
        "tanh", 'one for all hidden layers or one each; or "module:Name"', choices=_activations
    )
    loss: str = option(REQUIRED, 'output layer and loss; or "module:Name"', choices=_losses)
    init: str = option("glorot", "distribution of the initial weights", choices=_initializers)
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


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """The section ``[training]``: how long, how often, in which numbers and on which device."""

    batch_size: int = option(1000, "rows per update (a method may let it grow from here)", low=1)
    updates: int = option(5000, "number of updates", low=0)
    seed: int = option(
        0, "seed of the weights, the order of the rows and every sample", low=0, high=2**62
    )
    dtype: str = option(
        "float32", "precision of the whole computation", choices=("float32", "float64")
    )
    device: str = option("cpu", "cpu, cuda or cuda:N")
    evaluate_every: int = option(
        50, "updates between evaluations; 0 = only at start and end", low=0
    )
    checkpoint_every: int = option(
        100, "updates between checkpoints; 0 = only at start and end", low=0
    )
    keep_checkpoints: int = option(
        2, "how many of the newest checkpoints to keep, the best aside", low=1
    )
    evaluate_rows: int = option(
        10000, "training rows that evaluations use, spread over the file; 0 = all", low=0
    )
    memory: int | str = option("256MB", "most bytes of temporaries, such as KFLR's columns", low=1)
    max_seconds: float = option(
        0.0, "stop after so many seconds of training, evaluation aside; 0 = never", low=0
    )


def sections(method: str) -> dict[str, tuple[Option, ...]]:
    """Section → its options, those of [optimizer] being the method's."""
    known = tuple(optimizers.methods())
    chosen = Option("method", DEFAULT_METHOD, "str", "how weights are updated", choices=known)
    of_method = optimizers.options_of(method) if method in known else ()
    return {
        "data": DataSettings.options(),
        "network": NetworkSettings.options(),
        "optimizer": (chosen, *of_method),
        "training": TrainingSettings.options(),
    }
