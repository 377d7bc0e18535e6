"""`python -m regzoo`: the same as the `regzoo` script."""

from regzoo.start import main

main()
