"""Benches shared through labgrid: exporting one, and working at a place of one. See docs/shared-benches.md.

labgrid itself is never imported here: it lives in an environment of its own, because its pyserial takes the place of
the real one. `holder.py` is the one file that runs there.
"""
