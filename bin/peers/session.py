"""One run of the benchmark: what was asked for, in order, and the files that it leaves."""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import scipy

from gnopt import __version__
from gnopt.errors import ConfigError
from gnopt.files import write_text
from gnopt.machine import busy_cores, core_count, processor
from peers import exact_kflr, growth, targets
from peers.peer_runs import peer_runs
from peers.problems import NETS, QUICK, Net, chosen, experiment, variants
from peers.rates import Rates
from peers.rounds import Row, measure
from peers.servers import Server, beside, show_peers
from peers.subjects import Method, Passes, Subject
from peers.tables import phase_rows, show_phases, show_rates, write_csv


@dataclass(frozen=True)
class Settings:
    """The options of the command line."""

    threads: int
    net: str
    methods: str
    rounds: int | None
    quick: bool
    slow: bool
    clock: str
    dtype: str
    peers: bool
    peer_python: str
    time_to_target: bool
    targets: str
    config: Path | None
    budget: float
    baseline_seconds: float | None
    exact: bool
    growth: bool
    only: bool
    out: Path
    as_json: bool

    @property
    def nets(self) -> list[Net]:
        """The nets to measure."""
        table = QUICK if self.quick else NETS
        return list(table.values()) if self.net == "all" else [table[self.net]]

    @property
    def names(self) -> list[str]:
        """The variants asked for; none stands for all."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]


def tell(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


def run(settings: Settings) -> None:
    """Measure, print and write; raises GnoptError."""
    wanted = _targets(settings)
    chosen(
        settings.names, settings.nets[0], settings.slow
    )  # a wrong name is told before anything runs
    settings.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(settings)}
    with tempfile.TemporaryDirectory(prefix="gnopt-benchmark-") as folder:
        scratch = Path(folder)
        if settings.time_to_target:  # first: nothing else of this process is in memory yet
            result["targets"] = _to_targets(settings, wanted, scratch)
        if settings.exact:
            tell("exact KFLR")
            result["exact"] = exact_kflr.measure(
                _exact_nets(settings), settings.nets[0].batch, settings.quick, settings.clock
            )
        if not settings.only:
            result["nets"] = [phases(net, settings, scratch) for net in settings.nets]
        if settings.growth:
            result["growth"] = growth.measure(settings.clock, settings.quick, tell)
            result["exponents"] = growth.exponents(result["growth"])
    _write(settings, result)
    if settings.as_json:
        click.echo(json.dumps(_plain(result)))
    else:
        _print(settings, result)


def _targets(settings: Settings) -> list[float]:
    if not settings.targets:
        return [] if settings.config else list(targets.MNIST10K)
    try:
        return [float(text) for text in settings.targets.split(",")]
    except ValueError:
        raise ConfigError(
            f"--targets {settings.targets}: expected numbers with commas between"
        ) from None


def _exact_nets(settings: Settings) -> list[str]:
    return [
        net.name
        for net in settings.nets
        if net.name == "classifier" or settings.slow or settings.quick
    ]


def machine(settings: Settings) -> dict[str, Any]:
    """Where the numbers come from."""
    return {
        "gnopt": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": core_count(),
        "threads": settings.threads,
        "clock": settings.clock,
        "dtype": settings.dtype,
        "other_load": busy_cores(0),
        "quick": settings.quick,
    }


def phases(net: Net, settings: Settings, scratch: Path) -> dict[str, Any]:
    """Rows of one net, with the rates of its rounds."""
    base = experiment(net, dtype=settings.dtype)
    server = None
    methods: list[Method] = []
    absence = ""
    try:
        for variant in chosen(settings.names, net, settings.slow, settings.peers):
            tell(f"{net.name}: {variant.name}")
            methods.append(Method(base, net, variant, settings.clock))
        subjects: list[Subject] = [Passes(base, net, settings.clock), *methods]
        if settings.peers:
            server = Server(
                base, net, settings.peer_python, settings.threads, settings.clock, scratch
            )
            subjects += server.subjects(base, net)
            absence = server.absence
            if absence:
                tell(f"peers: not measured: {absence}")
        rates = Rates(base.ops, base.net.dtype, settings.clock, 300 if settings.quick else 1000)
        rounds = settings.rounds or (10 if settings.quick else 20)
        rows, seen = measure(
            subjects, rates, rounds, lambda n: tell(f"{net.name}: round {n + 1} of {rounds}")
        )
    finally:
        if server is not None:
            server.close()
        base.data.close()
    return {
        "net": net.name,
        "sizes": list(base.net.sizes),
        "batch": net.batch,
        "rounds": rounds,
        "rates": seen,
        "rows": rows,
        "peers": {
            "versions": server.versions if server else {},
            "absent": absence,
            "ratios": beside(rows),
        },
    }


def _to_targets(settings: Settings, wanted: list[float], scratch: Path) -> list[dict[str, Any]]:
    table = variants()
    methods = [table[name] for name in settings.names or ["kfra"]]
    problem = targets.Problem(seconds=settings.budget)
    if settings.config:
        problem = targets.Problem(settings.config, seconds=settings.budget)
    if settings.quick:
        problem = targets.Problem(
            QUICK["mnist10k"].path, QUICK["mnist10k"].sets, min(settings.budget, 3.0)
        )
        methods, wanted = methods[:1], [200.0]
    own = [targets.OwnRun(variant) for variant in methods]
    baselines: list[targets.Contestant] = []
    if settings.peers:
        runs, absent = peer_runs(settings.peer_python, settings.threads)
        baselines += runs
        for line in absent:
            tell(f"not measured: {line}")
    if settings.baseline_seconds and not baselines:
        baselines.append(targets.OwnRun(targets.ADAM))
    tell(f"to objectives: {', '.join(one.name for one in (*own, *baselines))}")
    return targets.measure(problem, own, wanted, baselines, settings.baseline_seconds, scratch)


def _plain(value: Any) -> Any:
    """The same as JSON knows it; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return _plain(vars(value)) if hasattr(value, "__dict__") else value


def _write(settings: Settings, result: dict[str, Any]) -> None:
    out, nets = settings.out, result.get("nets", [])
    write_text(out / "benchmark.json", json.dumps(_plain(result), indent=1) + "\n")
    write_csv(
        out / "phases.csv", [row for net in nets for row in phase_rows(net["net"], net["rows"])]
    )
    write_csv(
        out / "rates.csv",
        [
            {
                "net": net["net"],
                "round": number,
                **{name: values[number] for name, values in net["rates"].items()},
            }
            for net in nets
            for number in range(len(net["rates"]["gemm"]))
        ],
    )
    write_csv(
        out / "peers.csv",
        [{"net": net["net"]} | row for net in nets for row in net["peers"]["ratios"]],
    )
    for name in ("targets", "exact", "growth", "exponents"):
        write_csv(out / f"{name}.csv", result.get(name, []))
    if "growth" in result:
        from peers.growth_figure import draw

        draw(result["growth"], out / "growth.png")


def _print(settings: Settings, result: dict[str, Any]) -> None:
    for net in result.get("nets", []):
        rows: list[Row] = net["rows"]
        show_rates(net["rates"], str(settings.threads))
        sizes = "-".join(map(str, net["sizes"]))
        show_phases(
            f"{net['net']} ({sizes}, batch {net['batch']}, {settings.dtype})", rows, settings.quick
        )
        for row in rows:
            if row.note:
                click.echo(f"  {row.name}: {row.note}")
        show_peers(net["net"], net["peers"]["ratios"])
        if net["peers"]["absent"]:
            click.echo(f"  peers not measured: {net['peers']['absent']}")
    if "targets" in result:
        targets.show_targets("Training", result["targets"])
    if "exact" in result:
        exact_kflr.show_exact(result["exact"])
    if "growth" in result:
        growth.show_growth(result["growth"])
    click.echo(f"written to {settings.out}", err=True)
