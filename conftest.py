"""Loads the rig's fixtures for tests_hil and tests."""

pytest_plugins = [
    "fixtures.options",
    "fixtures.evidence",
    "fixtures.unit",
    "fixtures.bench",
    "fixtures.uart",
    "fixtures.flasher",
    "fixtures.image",
]
