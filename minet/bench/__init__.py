"""What `minet bench` runs: minet timed beside other libraries, results compared first."""
