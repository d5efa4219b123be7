"""Make many runs at a time, each in a process of its own: members of an ensemble, runs of a
comparison.

An engine performs tasks; a task starts ``python -m MODULE DIRECTORY NAME PLUG_INS``, and the module
hands `serve` a function that makes the run called NAME. Threads and cores are shared out among the
processes, and a signal stops all of them after their checkpoints.

Reading order: ``cores`` → ``child`` → ``engines`` → ``worker``.
"""
