"""``python -m gnopt`` is the same as the ``gnopt`` command."""

from gnopt.cli import main

main()
