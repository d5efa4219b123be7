"""The environment variables that must be set before NumPy is loaded."""

import os
import subprocess
import sys

from cli_tools import ROOT

PRINT = (
    "import gnopt, sys; import os; "
    "print(os.environ['OPENBLAS_THREAD_TIMEOUT'], 'numpy' in sys.modules)"
)


def printed(**environment: str) -> str:
    base = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    return subprocess.run(
        [sys.executable, "-c", PRINT],
        capture_output=True,
        text=True,
        check=True,
        env={**base, "PYTHONPATH": ROOT, **environment},
    ).stdout.strip()


def test_blas_threads_sleep_unless_the_user_says_otherwise():
    assert printed() == "10 False"
    assert printed(OPENBLAS_THREAD_TIMEOUT="20") == "20 False"
