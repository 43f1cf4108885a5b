"""`python -m minet` is `minet`."""

from minet.cli import main

main()
