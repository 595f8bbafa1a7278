"""`python -m historyd` is `historyd`."""

from historyd.cli import main

main()
