"""Read HDF5 files and tables as streams of rows; make, import and describe such files.

Training calls ``source.open_data``. Everything here is NumPy on the host.

Reading order: ``rows`` → ``links`` → ``formats`` → ``selection`` → ``roles`` → ``options`` →
``views`` → ``filters`` → ``layout`` → ``hdf5`` → ``places`` → ``classes`` → ``order`` → ``moments``
→ ``held_out`` → ``split`` → ``fingerprint`` → ``plain_pickle`` → ``hdf5_frames`` → ``table`` →
``opening`` → ``source`` → ``info``; for making files ``writing`` → ``table_rows`` →
``other_files``, ``mat_file`` → ``array_files``, ``idx``, ``picture_form`` → ``pictures`` →
``importing`` → ``make_curves``, ``make_faces``.
"""
