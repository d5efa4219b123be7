"""``python -m gnopt`` is the same as the ``gnopt`` command."""

from gnopt.cli import main

if __name__ == "__main__":  # not where an MPI worker of `gnopt compare --engine mpi` imports this
    main()
