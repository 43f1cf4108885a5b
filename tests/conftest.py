"""What all tests share: examples drawn by hypothesis are the same in every run, and few."""

from hypothesis import settings

settings.register_profile("minet", derandomize=True, deadline=None, max_examples=20, database=None)
settings.load_profile("minet")
