"""Benchmarks: run by hand, never in a timed test."""
