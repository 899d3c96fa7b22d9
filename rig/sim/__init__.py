"""The simulated bench: boards that execute what is in their flash, and the supply that powers them.

Reached only as a real bench is (a VISA resource, serial ports). Nothing outside this package imports it.
"""
