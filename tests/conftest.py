"""What all tests share: two threads at least, and hypothesis's examples the same in every run, and few."""

import os

from hypothesis import settings

# Read when Numba is imported. On one core too, a sum whose order depends on the threads must be caught.
os.environ["NUMBA_NUM_THREADS"] = str(max(2, os.cpu_count() or 1))

settings.register_profile("minet", derandomize=True, deadline=None, max_examples=20, database=None)
settings.load_profile("minet")
