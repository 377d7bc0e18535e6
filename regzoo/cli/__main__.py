"""`python -m regzoo.cli`: the same as the `regzoo` script."""

from regzoo.cli import main

main()
