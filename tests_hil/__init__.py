"""Suites that run on a bench, real or simulated: `pytest tests_hil --bench FILE --slot A`."""
