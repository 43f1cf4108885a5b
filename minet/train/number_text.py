"""How a run's numbers are formatted: in its table, in its closing lines, and by `minet eval`."""

from __future__ import annotations


def percent_text(accuracy: float) -> str:
    """Format 0.97531 as ``97.53 %``."""
    return f"{100 * accuracy:.2f} %"


def loss_text(loss: float) -> str:
    """Format a loss in at most nine characters."""
    return f"{loss:.4f}" if abs(loss) < 1e4 else f"{loss:.3e}"
