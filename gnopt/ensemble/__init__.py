"""Train several networks in one run directory, and use them as one.

The members of an ensemble are ordinary runs, RUN/members/1, 2, ..., whose configurations differ in
seed and rows. They are trained in processes of their own; what the commands ask of an ensemble is
answered by all members together.

Reading order: ``members`` → ``outcome``; what the commands ask of an ensemble: ``scores`` →
``trained`` → ``load``; its training: ``summary`` → ``start`` → ``worker`` → ``train``.
"""
