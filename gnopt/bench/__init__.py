"""What an update of each method costs on this machine, phase by phase: ``gnopt bench``.

``problem`` makes the problem that is timed where no configuration is given, ``entrants`` chooses
and builds the methods, ``timed`` times one update of a method in the middle of a run, ``rates``
measures matrix products, ``rounds`` takes turns among the methods and averages, ``threads`` repeats
the whole in a process for each number of threads, and ``report`` puts the result into words.

Methods take turns, so that whatever else the machine does meets all of them alike.
"""
