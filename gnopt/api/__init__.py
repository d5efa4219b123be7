"""Train and predict from Python: `gnopt.fit`, `gnopt.load`, and estimators for scikit-learn.

All of it goes the way of the command line. Data in memory are written as a file that training
reads, the run has a directory, and a `Model` is a copy of the files of a run without the data. The
names are attributes of ``gnopt`` itself; importing ``gnopt`` alone loads nothing of them.

Reading order: ``keywords`` → ``memory_data`` → ``snapshot`` → ``model`` → ``fitting`` →
``estimators``.
"""
