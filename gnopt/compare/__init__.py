"""The same problem under several methods: which runs to make, making them, and what came out.

Reading order: ``grid`` → ``plan`` → ``cores`` → ``worker`` → ``child`` → ``engines`` → ``curves`` →
``outcome`` → ``execute`` → ``choice`` → ``targets`` → ``tables`` → ``texts`` → ``facts``. Numbers
only: `gnopt.plots` draws the figures. May import everything except ``plots`` and ``cli``.
"""
