"""What a flash holds besides code: calibration, Tuya's storage, OpenBeken's configuration and counters."""
