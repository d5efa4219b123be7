"""The same bench with several numbers of threads, each in a process of its own.

BLAS reads the number of its threads when it is loaded, so that one process cannot try several.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence

from gnopt import machine
from gnopt.bench.bench import BenchResult, ProblemFacts
from gnopt.bench.turns import UpdateCost
from gnopt.errors import GnoptError


def bench_with(threads: int, arguments: Sequence[str], note: Callable[[str], None]) -> BenchResult:
    """Run ``gnopt bench`` with these arguments and this many threads; GnoptError where it fails."""
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    note(words)
    done = subprocess.run(
        machine.python_running("gnopt", "bench", *arguments, "--json", "--quiet"),
        capture_output=True,
        text=True,
        env={**os.environ, **machine.thread_environment(threads)},
    )
    if done.returncode:
        reason = done.stderr.strip().removeprefix("gnopt: error: ")
        failure = GnoptError(f"with {words}: {reason}")
        failure.exit_code = done.returncode
        raise failure
    document = json.loads(done.stdout)
    (found,) = document["results"]
    costs = [UpdateCost(**row) for row in found["methods"]]
    facts = ProblemFacts(**document["problem"])
    return BenchResult(facts, found["threads"], costs, found["left_out"])
