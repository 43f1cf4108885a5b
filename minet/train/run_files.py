"""The names of the files in a run's folder."""

from __future__ import annotations

WEIGHTS, LOG, CURVES, KERNELS = "weights.safetensors", "log.jsonl", "curves.png", "kernels.png"
KERNEL_LOG = "kernels.jsonl"
BEST, AVERAGE = "best.safetensors", "ema.safetensors"
OLDER = "checkpoints"  # a folder: the checkpoints before the newest
RATES, STATISTICS, EVENTS = "rates.jsonl", "statistics.jsonl", "tensorboard"
