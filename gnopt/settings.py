"""The tables of settings: what each section of a configuration may hold."""

from __future__ import annotations

from gnopt import optimizers, registry
from gnopt.data.options import OPTIONS as DATA
from gnopt.engine.initializers import INITIALIZERS
from gnopt.options import REQUIRED, Option

DEFAULT_METHOD = "kfra"
PACKAGES = {
    "loss": ("gnopt.engine.losses", "LOSS"),
    "activation": ("gnopt.engine.activations", "ACTIVATION"),
}
PLUG_INS = {f"network.{name}" for name in PACKAGES}

TRAINING = (
    Option(
        "batch_size", 1000, "int", "rows per update (a method may let it grow from here)", low=1
    ),
    Option("updates", 5000, "int", "number of updates", low=0),
    Option(
        "seed",
        0,
        "int",
        "seed of the weights, the order of the rows and every sample",
        low=0,
        high=2**62,
    ),
    Option(
        "dtype",
        "float32",
        "str",
        "precision of the whole computation",
        choices=("float32", "float64"),
    ),
    Option("device", "cpu", "str", "cpu, cuda or cuda:N"),
    Option(
        "evaluate_every", 50, "int", "updates between evaluations; 0 = only at start and end", low=0
    ),
    Option(
        "checkpoint_every",
        100,
        "int",
        "updates between checkpoints; 0 = only at start and end",
        low=0,
    ),
    Option(
        "keep_checkpoints",
        2,
        "int",
        "how many of the newest checkpoints to keep, the best aside",
        low=1,
    ),
    Option(
        "evaluate_rows",
        10000,
        "int",
        "training rows that evaluations use, spread over the file; 0 = all",
        low=0,
    ),
    Option(
        "memory", "256MB", "int|str", "most bytes of temporaries, such as KFLR's columns", low=1
    ),
    Option(
        "max_seconds",
        0.0,
        "float",
        "stop after so many seconds of training, evaluation aside; 0 = never",
        low=0,
    ),
)


def network_options() -> tuple[Option, ...]:
    """The options of [network]; choices are what the registry finds."""
    names = {what: tuple(registry.discover(*place)) for what, place in PACKAGES.items()}
    return (
        Option(
            "hidden",
            REQUIRED,
            "ints",
            "widths of the hidden layers; the output's is the data's",
            low=1,
        ),
        Option(
            "activation",
            "tanh",
            "str|strs",
            'one for all hidden layers or one each; or "module:Name"',
            choices=names["activation"],
        ),
        Option(
            "loss",
            REQUIRED,
            "str",
            'output layer and loss; or "module:Name"',
            choices=names["loss"],
        ),
        Option(
            "init",
            "glorot",
            "str",
            "distribution of the initial weights",
            choices=tuple(INITIALIZERS),
        ),
        Option(
            "output_bias",
            "data_mean",
            "str",
            "start of the output bias: inverse link of the mean target or zero",
            choices=("data_mean", "zero"),
        ),
    )


def sections(method: str) -> dict[str, tuple[Option, ...]]:
    """Section → its options, those of [optimizer] being the method's."""
    known = tuple(optimizers.methods())
    chosen = Option("method", DEFAULT_METHOD, "str", "how weights are updated", choices=known)
    of_method = optimizers.options_of(method) if method in known else ()
    return {
        "data": DATA,
        "network": network_options(),
        "optimizer": (chosen, *of_method),
        "training": TRAINING,
    }
