"""Training: model files, solvers, the loop with its callbacks, and checkpoints."""
