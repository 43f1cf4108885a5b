"""`minet bench`: compare minet's results with those of other libraries, then time them side by side."""
