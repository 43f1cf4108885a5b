"""How numbers of a run are written: in its table, its last lines, and by `minet eval`."""

from __future__ import annotations


def percent_text(accuracy: float) -> str:
    """0.97531 as ``97.53 %``."""
    return f"{100 * accuracy:.2f} %"


def loss_text(loss: float) -> str:
    """A loss in nine characters at most."""
    return f"{loss:.4f}" if abs(loss) < 1e4 else f"{loss:.3e}"
