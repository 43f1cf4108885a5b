"""Data-parallel training: P processes that each take a share of every batch, by MPI (mpi4py).

``mpiexec -n P minet train MODEL``. Nothing else in minet imports this package but the command.
"""
