"""Models trained with every combination of some settings, side by side, for `minet compare`."""
