"""Read HDF5 files as streams of rows; make, import and describe such files.

Training calls ``source.open_data``. Everything here is NumPy on the host.

Reading order: ``rows`` → ``formats`` → ``selection`` → ``options`` → ``views`` → ``filters`` →
``hdf5`` → ``classes`` → ``order`` → ``moments`` → ``split`` → ``fingerprint`` → ``source`` →
``info``; for making files ``writing`` → ``plain_pickle`` → ``hdf5_frames``, ``layout``,
``zip_kinds``, ``mat_file`` → ``array_files``, ``idx``, ``picture_form`` → ``pictures``, ``text`` →
``importing`` → ``make_curves``, ``make_faces``.
"""
