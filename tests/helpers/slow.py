"""What of a sweep is run by `make test`: its first cases; `make test-all` runs the others too."""

import pytest


def slow(*values, **options):
    """``pytest.param`` of a case that only `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.slow, **options)


def first_of_each(groups):
    """The cases of all groups, of which only the first of each group is not slow."""
    return [
        pytest.param(*case.values, id=case.id, marks=[*case.marks, *[pytest.mark.slow] * (place > 0)])
        for group in groups
        for place, case in enumerate(group)
    ]
