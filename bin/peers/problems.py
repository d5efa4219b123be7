"""The networks that are measured, and the variants of methods with the settings they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnopt.aims import OBJECTIVE
from gnopt.config import load
from gnopt.errors import ConfigError, GnoptError, nearest
from gnopt.optimizers import Optimizer, make, methods
from gnopt.optimizers.base import OptimizerSettings
from gnopt.training.batches import Batches
from gnopt.training.setup import Experiment, build

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Net:
    """A configuration with what is changed in it."""

    name: str
    config: str
    batch: int
    sets: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The configuration's file; GnoptError outside a checkout, which alone holds configurations
        and data.
        """
        path = CONFIGS / self.config
        if not path.is_file():
            raise GnoptError(
                f"{path}: missing; the benchmark runs from a checkout of gnopt, by bin/benchmark"
            )
        return path


_ALL = ("data.validation=0",)
_SMALL = (
    "network.hidden=[96, 32, 8, 32, 96]",
    'network.activation=["tanh", "tanh", "identity", "tanh", "tanh"]',
)
NETS = {
    "mnist10k": Net("mnist10k", "mnist10k.toml", 1000, _ALL),
    "classifier": Net(
        "classifier", "classifier.toml", 1000, (*_ALL, "network.hidden=[1000, 500, 250, 30]")
    ),
}
QUICK = {
    "mnist10k": Net("mnist10k", "mnist10k.toml", 200, (*_ALL, *_SMALL)),
    "classifier": Net("classifier", "classifier.toml", 200, (*_ALL, "network.hidden=[96, 32, 8]")),
}


@dataclass(frozen=True)
class Variant:
    """A method under a name of its own, with settings that differ from the method's defaults."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    slow: bool = False  # minutes an update where there are many outputs
    small: bool = False  # for nets of some thousand weights, which these are not
    note: str = ""


FULL = {
    "factor_rows": 1.0,
    "factor_period": 1,
    "inverse_period": 1,
    "model_rows": 1.0,
    "input_updates": 0,
    "directions": [],
    "growth_limit": 1.0,
    "sketch_g": 1.0,
}
SPECIAL = (
    Variant(
        "kfra-full",
        "kfra",
        FULL,
        note="factors, inverses and rescaling from all rows in every update",
    ),
    Variant("kfac-full", "kfac", FULL, note="the same for KFAC"),
    Variant("kflr-full", "kflr", FULL, slow=True, note="the same for exact KFLR"),
    Variant("kflr", "kflr", slow=True, note="exact: all columns of the root"),
    Variant("kflr-sketch", "kflr", {"columns": 1}, note="one random column of the root"),
    Variant(
        "gauss_newton",
        "gauss_newton",
        {"iterations": 3},
        note="3 iterations of conjugate gradients",
    ),
    Variant(
        "hessian_free",
        "hessian_free",
        {"iterations": 3},
        note="3 iterations of conjugate gradients",
    ),
    Variant("levenberg_marquardt", "levenberg_marquardt", small=True),
)


def variants() -> dict[str, Variant]:
    """Every variant by name: each method at its defaults, or as ``SPECIAL`` has it."""
    table = {"kfra-full": SPECIAL[0]}
    special = {variant.name: variant for variant in SPECIAL}
    for name in sorted(methods(), key=lambda name: -methods()[name].order):
        table[name] = special.get(name, Variant(name, name))
    return table | special


BESIDE_PEERS = ("kfac-full", "kflr-full")  # there to be compared with


def chosen(names: Sequence[str], net: Net, slow: bool, peers: bool = False) -> list[Variant]:
    """The variants called ``names``, or all; those that would take minutes only with ``slow`` or by
    their name, those of small nets by their name alone.
    """
    table = variants()
    wrong = [name for name in names if name not in table]
    if wrong:
        raise ConfigError(
            [
                f"--methods: unknown method '{name}'{nearest(name, table)}; known: "
                f"{', '.join(table)}"
                for name in wrong
            ]
        )
    if names:
        return [table[name] for name in names]
    quick_enough = [
        v
        for v in table.values()
        if not v.small and (slow or not (v.slow and net.config == "mnist10k.toml"))
    ]
    return [v for v in quick_enough if peers or v.name not in BESIDE_PEERS]


def experiment(
    net: Net, sets: Sequence[str] = (), seed: int = 0, dtype: str = "float32"
) -> Experiment:
    """Data, network and loss of ``net`` with its configured method."""
    flags = {"training.seed": ("--seed", seed), "training.dtype": ("--dtype", dtype)}
    return build(load(net.path, (*net.sets, *sets), flags).aimed(OBJECTIVE))


def optimizer(base: Experiment, net: Net, variant: Variant) -> Optimizer[Any]:
    """The variant's method on the problem of ``base``, sharing its data, network and loss."""
    config = load(net.path, (*net.sets, f"optimizer.method={variant.method}"))
    return make(
        variant.method, base.optimizer.problem, settings_of(config.optimizer, variant.settings)
    )


def settings_of(settings: OptimizerSettings, changes: Mapping[str, Any]) -> OptimizerSettings:
    """The settings of a method with those changes whose options it has."""
    known = settings.values()
    return settings.changed(**{k: v for k, v in changes.items() if k in known})


def batches(base: Experiment) -> Batches:
    """The rows of updates on the device, as the training loop takes them."""
    return Batches(base.data.train, base.loss, base.ops)
