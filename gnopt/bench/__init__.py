"""What an update of each method costs on this machine, phase by phase: ``gnopt bench``.

Read in this order: ``made_problem`` makes the problem that is timed where no configuration is
given; ``entrants`` chooses and builds the methods; ``timed_method`` times one update of a method in
the middle of a run; ``product_rate`` measures matrix products; ``turns`` lets the methods take
turns and averages; ``bench`` does all of this in one process; ``threads`` does it in a process for
each number of threads; ``bench_texts`` puts results into words.

Methods take turns, so that whatever else the machine does meets all of them alike.
"""
