"""``gnopt list``: the registry itself."""

from __future__ import annotations

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, print_json


@click.command("list")
@as_json
@verbosity
def command(as_json: bool) -> None:
    """Everything that a configuration may name, with one line each."""
    from gnopt import optimizers
    from gnopt.engine.activations import all_activations
    from gnopt.engine.initializers import INITIALIZERS
    from gnopt.engine.losses import all_losses
    from gnopt.metrics import all_metrics

    registries = {
        "methods": {name: method.summary for name, method in optimizers.methods().items()},
        "losses": {name: loss.summary for name, loss in all_losses().items()},
        "activations": {name: activation.summary for name, activation in all_activations().items()},
        "metrics": {name: metric.summary for name, metric in all_metrics().items()},
        "initialisers": {name: one.summary for name, one in INITIALIZERS.items()},
    }
    if as_json:
        print_json(registries)
        return
    width = max(len(name) for part in registries.values() for name in part)
    for title, part in registries.items():
        click.echo(
            "\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in part.items()), ""])
        )
