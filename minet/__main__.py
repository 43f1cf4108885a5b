"""`python -m minet` is `minet`."""

from minet.cli.main import main

main()
