"""One configuration for several methods: which options of [optimizer] each of them gets.

``compare`` and ``bench`` run methods other than the configured one. Options of the file belong to
the file's method, and second-order methods share theirs. Options given by ``--set`` go to every
method that has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from gnopt import optimizers
from gnopt.config import Config, parse_set
from gnopt.errors import SettingProblem, SettingsError


def of_optimizer(text: str) -> bool:
    """Whether a ``--set`` text changes [optimizer]."""
    return text.strip().startswith("optimizer.")


def asked_options(sets: Sequence[str], methods: Sequence[str]) -> dict[str, object]:
    """The options that ``--set`` texts give to ``methods``: key in full → value.

    Raises SettingsError for ``optimizer.method``, which ``--methods`` names, and for an option that
    none of the methods has.
    """
    asked: dict[str, object] = {}
    problems = []
    for text in sets:
        key, value, problem = parse_set(text)
        if not of_optimizer(key):
            continue
        name = key.partition(".")[2]
        if problem is None and name == "method":
            found = f"--set {key}: the methods to compare are named by --methods"
            problem = SettingProblem(key, found)
        if problem is None and not any(name in option_names(method) for method in methods):
            found = f"--set {key}: not an option of {', '.join(dict.fromkeys(methods))}"
            problem = SettingProblem(key, found)
        if problem:
            problems.append(problem)
        asked[key] = value
    if problems:
        raise SettingsError(problems)
    return asked


def options_for(config: Config, method: str, asked: dict[str, object]) -> dict[str, object]:
    """The options that the file and ``asked_options`` give to ``method``: key in full → value."""
    table, names = optimizers.methods(), option_names(method)
    own = table.get(config.method)  # none where the configuration leaves the method open
    shared = own is not None and (method == own.name or table[method].order == own.order == 2)
    from_file = {
        f"optimizer.{name}": value
        for name, value in config.optimizer.values().items()
        if shared and name in names and config.sources[f"optimizer.{name}"] != "default"
    }
    return from_file | {k: v for k, v in asked.items() if k.partition(".")[2] in names}


def option_names(method: str) -> set[str]:
    """The names of a method's options."""
    return {option.name for option in optimizers.options_of(method)}
