"""Compare several methods on one problem: plan the runs, make them, and evaluate the results.

Everything here is numbers and tables; `gnopt.plots` draws the figures.

Reading order: ``grid`` → ``plan`` → ``worker`` → ``loss_curves`` → ``outcome`` → ``execute`` →
``choice`` → ``targets`` → ``facts`` → ``prepare`` → ``result_files`` → ``result_texts``.
"""
