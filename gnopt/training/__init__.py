"""Train a network from a checked configuration, and use the result.

Training writes a run directory; later commands read the directory to evaluate, predict and export.
Nothing here prints: the loop calls the methods of a `Reporter`, and the command line shows them.

Reading order: ``tree`` → ``state`` → ``evaluate`` → ``judge`` → ``checkpoint`` → ``csv_table`` →
``rundir`` → ``origin`` → ``constant`` → ``restart`` → ``weights`` → ``sense`` → ``setup`` →
``estimate``, ``advice``, ``batches``, ``signals`` → ``watch`` → ``blame`` → ``ladder`` →
``cadence`` → ``measured`` → ``handout`` → ``stopping`` → ``decay_search`` → ``recovery`` → ``loop``
→ ``start`` → ``content`` → ``layers`` → ``jacobian`` → ``load`` → ``predict``.
"""
