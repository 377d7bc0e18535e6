"""`python -m regzoo.cli`: the same as the `regzoo` script."""

from regzoo.start import main

main()
