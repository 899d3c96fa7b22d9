"""Loads the rig's fixtures for tests_hil and tests."""

pytest_plugins = ["fixtures.plugins"]
