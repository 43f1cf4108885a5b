"""The command line: main.py, one file per command, and what they share in options.py."""
