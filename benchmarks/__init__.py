"""minet timed beside others: `minet bench`, and `python -m minet.benchmarks.scaling | overhead | startup`."""
