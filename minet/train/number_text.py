"""How a run's numbers are formatted: in its table, in its closing lines, and by `minet eval`."""

from __future__ import annotations

FORMATS = {"rate": "{:.4g}", "seconds": "{:.2f} s", "images_per_second": "{:,.0f}"}


def percent_text(accuracy: float) -> str:
    """Format 0.97531 as ``97.53 %``."""
    return f"{100 * accuracy:.2f} %"


def loss_text(loss: float) -> str:
    """Format a loss in at most nine characters."""
    return f"{loss:.4f}" if abs(loss) < 1e4 else f"{loss:.3e}"


def number_text(name: str, value: float) -> str:
    """Format a number of an epoch's record, given its name there.

    Of a loss's metrics, one whose name ends in "accuracy" is a share, shown in percent.
    """
    if name.endswith("accuracy"):
        return percent_text(value)
    return FORMATS[name].format(value) if name in FORMATS else loss_text(value)
