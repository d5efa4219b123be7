"""The plan of a comparison: all its runs, decided and checked once, and kept in compare.json."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from gnopt import optimizers, plug_ins
from gnopt.aims import OBJECTIVE
from gnopt.compare.grid import Variant, points, slug
from gnopt.config import Config, Flags, load
from gnopt.engine.arrays import Device, check_device, get_backend
from gnopt.errors import ConfigError, DataError, SettingProblem, SettingsError
from gnopt.files import inside, write_text
from gnopt.method_options import asked_options, of_optimizer, options_for
from gnopt.toml import to_toml
from gnopt.training import setup

FILE, PROBLEM = "compare.json", "problem.toml"
SCHEMA = 1
UNBOUNDED = 10**9  # updates of a run whose budget is in seconds


@dataclass(frozen=True)
class Run:
    """One run of a comparison: a grid point of a variant with a seed."""

    id: str  # its folder below runs/
    variant: str
    point: dict[str, object]  # values of the `GridPoint`
    seed: int
    settings: dict[str, object]  # key → value, overriding the shared configuration

    @property
    def sets(self) -> tuple[str, ...]:
        """The settings in the form of ``--set``."""
        lines = to_toml({"settings": self.settings}).splitlines()[1:]
        return tuple(line.replace(" = ", "=", 1) for line in lines)


@dataclass
class ComparisonPlan:
    """A comparison: the configuration that all runs share, the variants and the runs."""

    directory: Path
    problem: str  # the shared configuration, as TOML
    variants: list[Variant]
    runs: list[Run]
    threads: int
    plug_ins: dict[str, dict[str, str]]  # their files, as `gnopt.plug_ins.records` has them
    budget: dict[str, float]
    targets: list[float] = field(default_factory=list)
    keep: bool = True  # the last checkpoint of finished runs

    @property
    def path(self) -> Path:
        """The file that holds the plan."""
        return self.directory / FILE

    @property
    def problem_path(self) -> Path:
        """The file with the configuration that all runs share."""
        return self.directory / PROBLEM

    def run_path(self, run: Run) -> Path:
        """Return the run directory of ``run``; DataError if its id leads out of runs/."""
        return inside(inside(self.directory, "runs"), run.id)

    def gpus(self) -> list[str]:
        """Return the devices of the runs, without the host."""
        own = tomllib.loads(self.problem)["training"]["device"]
        devices = {str(run.settings.get("training.device", own)) for run in self.runs}
        return sorted(device for device in devices if not Device.parse(device).backend.on_host)

    def variant(self, name: str) -> Variant:
        """Return the variant called ``name``."""
        return next(v for v in self.variants if v.name == name)

    def save(self) -> None:
        """Write compare.json and problem.toml, each atomically, if they changed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.problem_path.is_file() or self.problem_path.read_text() != self.problem:
            write_text(self.problem_path, self.problem)
        document = {
            "format": "gnopt-compare",
            "schema": SCHEMA,
            "plug_ins": self.plug_ins,
            "threads": self.threads,
            "budget": self.budget,
            "targets": self.targets,
            "keep": self.keep,
            "variants": [asdict(v) for v in self.variants],
            "runs": [asdict(r) for r in self.runs],
        }
        text = json.dumps(document, indent=1) + "\n"
        if not self.path.is_file() or self.path.read_text() != text:
            write_text(self.path, text)


def provide_plug_ins(plan: ComparisonPlan) -> None:
    """Load the plug-ins of a comparison that goes on, which may come from somebody else.

    Raises ConfigError where they are not allowed, DataError where they changed.
    """
    network = tomllib.loads(plan.problem).get("network", {})
    names = [(network, "loss"), (network, "activation")]
    names += [
        (run.settings, f"network.{key}") for run in plan.runs for key in ("loss", "activation")
    ]
    texts = dict.fromkeys(text for section, key in names for text in _texts(section.get(key)))
    asked = [text for text in texts if ":" in text]
    data = tomllib.loads(plan.problem).get("data", {})
    if data.get("follow_links") and not plug_ins.trusts(plan.problem_path):
        raise ConfigError(
            f"{plan.problem_path}: data.follow_links = true: it may come from somebody else, and "
            "its data could read any file of this machine; if you trust it: --allow-plugins, or "
            "give the configuration"
        )
    plug_ins.provide(plan.problem_path, asked)
    for text in asked:
        plug_ins.find(text, f"{plan.problem_path}:")
    plug_ins.refuse_changes(plan.plug_ins)


def _texts(value: object) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, str)]


def read_plan(directory: Path) -> ComparisonPlan:
    """Read the plan of the comparison in ``directory``; DataError if it is missing or damaged."""
    try:
        document = json.loads(inside(directory, FILE).read_text())
        problem = inside(directory, PROBLEM).read_text()
        plan = ComparisonPlan(
            directory,
            problem,
            [Variant(**v) for v in document["variants"]],
            [Run(**r) for r in document["runs"]],
            document["threads"],
            document["plug_ins"],
            document["budget"],
            document["targets"],
            document["keep"],
        )
        for run in plan.runs:
            plan.run_path(run)
        return plan
    except FileNotFoundError:
        raise DataError(f"{directory}: not a comparison (no {FILE} with {PROBLEM} in it)") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory / FILE}: not the plan of a comparison: {error}") from error


@dataclass(frozen=True)
class ComparisonRequest:
    """The runs that the command line asks for."""

    config: Path
    sets: tuple[str, ...]  # settings given by --set
    flags: Flags
    variants: Sequence[Variant]
    seeds: int
    updates: int | None
    seconds: float | None


def make_plan(request: ComparisonRequest, directory: Path, threads: int) -> ComparisonPlan:
    """Plan the runs and check every one of them; ConfigError lists all problems at once."""
    common = [text for text in request.sets if not of_optimizer(text)]
    config = load(request.config, common, request.flags)
    asked = asked_options(request.sets, [variant.method for variant in request.variants])
    reference = request.updates or config.training.updates  # a decay_share is a share of these
    problem = _problem(config, request)
    seed = config.training.seed
    variants = [
        replace(v, settings={**options_for(config, v.method, asked), **v.settings})
        for v in request.variants
    ]
    runs = []
    for variant in variants:
        for point in points(variant):
            given = {**variant.settings, **point.values}.get("training.updates")
            updates = given if isinstance(given, int) else reference
            settings = {
                "optimizer.method": variant.method,
                **_precision(config, variant.method),
                **variant.settings,
                **point.settings(updates),
            }
            for number in range(seed, seed + request.seeds):
                name = f"{slug(variant.name)}/{point.slug}-seed{number}"
                runs.append(Run(name, variant.name, point.values, number, settings))
    runs.sort(key=lambda run: run.seed)
    budget = {
        name: value
        for name, value in (("updates", request.updates), ("seconds", request.seconds))
        if value
    }
    plan = ComparisonPlan(
        directory,
        to_toml(problem),
        variants,
        runs,
        threads,
        {},
        budget,
    )
    _check_runs(plan, ["data.follow_links=true"] if config.data.follow_links else [])
    return replace(plan, plug_ins=plug_ins.records())


def _precision(config: Config, method: str) -> dict[str, object]:
    """Return the setting of the method's own precision, where none was given and it is another."""
    own = optimizers.get_method(method).dtype
    given = config.sources["training.dtype"] != "default"
    return {} if given or own == config.training.dtype else {"training.dtype": own}


def _problem(config: Config, request: ComparisonRequest) -> dict[str, dict[str, object]]:
    # A comparison is about the objective after the same budget.
    training = config.aimed(OBJECTIVE).training
    if request.seconds:
        training = training.changed(
            max_seconds=request.seconds, updates=request.updates or UNBOUNDED
        )
    elif request.updates:
        training = training.changed(updates=request.updates)
    if config.sources["training.keep_checkpoints"] == "default":
        training = training.changed(keep_checkpoints=1)
    if config.sources["training.restarts"] == "default":
        # All runs begin with the same weights; one that stands still shows it.
        training = training.changed(restarts=0)
    # Each run of a comparison is that of one network.
    training = training.changed(members=1, folds=0, member_rows="all")
    return {
        "data": config.data.values(),
        "network": config.network.values(),
        "training": training.values(),
    }


def _check_runs(plan: ComparisonPlan, sets: Sequence[str]) -> None:
    """Check every configuration, then data, network and methods, so that no run fails hours later.

    ``sets`` are settings that the user has allowed already. Raises ConfigError with all problems.
    """
    problems: list[SettingProblem] = []
    configs: dict[str, Config] = {}
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / PROBLEM
        problem.write_text(plan.problem)
        for run in plan.runs:
            key = json.dumps(run.settings, default=str)
            if key in configs or run.seed != plan.runs[0].seed:
                continue
            try:
                configs[key] = load(problem, [*run.sets, *sets])
            except SettingsError as error:
                problems += [replace(problem, source=run.variant) for problem in error.records]
    if problems:
        raise SettingsError(dict.fromkeys(problems))
    for device in dict.fromkeys(config.training.device for config in configs.values()):
        check_device(device)
    # Build on the CPU: on a GPU, this process would keep memory that the runs need.
    experiment = setup.build(next(iter(configs.values())), get_backend("cpu"))
    try:
        shared = optimizers.Problem(experiment.net, experiment.loss, 0, experiment.data.train.rows)
        for config in configs.values():
            optimizers.make(config.method, shared, config.optimizer)
    finally:
        experiment.data.close()


def merge(old: ComparisonPlan, new: ComparisonPlan) -> ComparisonPlan:
    """Return the old plan with the runs that the new one adds; ConfigError if they disagree."""
    problems = []
    if old.problem != new.problem:
        before, after = set(old.problem.splitlines()), set(new.problem.splitlines())
        changed = sorted(after - before) or sorted(before - after)
        problems.append(
            f"--resume: the comparison in {old.directory} was started with other settings: "
            f"{'; '.join(changed)}"
        )
    by_id = {run.id: run for run in old.runs}
    problems += [
        f"--resume: {run.id} was started with {by_id[run.id].settings}, not {run.settings}"
        for run in new.runs
        if run.id in by_id and by_id[run.id] != run
    ]
    if problems:
        raise ConfigError(problems)
    plug_ins.refuse_changes(old.plug_ins)
    added = [run for run in new.runs if run.id not in by_id]
    names = [variant.name for variant in new.variants]
    variants = [*(v for v in old.variants if v.name not in names), *new.variants]
    order = [v.name for v in old.variants] + names
    variants.sort(key=lambda v: order.index(v.name))
    return replace(
        old, variants=variants, runs=[*old.runs, *added], targets=new.targets or old.targets
    )
