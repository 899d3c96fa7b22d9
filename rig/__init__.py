"""rig: a hardware-in-the-loop test and production rig for BK7231N Wi-Fi modules."""

__version__ = "0.1.0"
