"""Training: model files, the solver, the loop with its callbacks, checkpoints, and runs in folders."""
