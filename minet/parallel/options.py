"""The options of a run by several processes, and what they are if nobody says anything."""

from typing import Any

DEFAULTS: dict[str, Any] = {"reduce": "fast", "sync_batch_norm": False, "trace": None, "patience": 600.0}
SUMS = ("fast", "ordered")  # what `reduce` may be
