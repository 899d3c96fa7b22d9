"""`python -m rig.cli`."""

from rig.cli import main

main()
