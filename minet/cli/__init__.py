"""The command line: main.py, a file for each command, and what they share, options.py."""
