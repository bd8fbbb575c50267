"""Benchmarks: one file for each question about speed. Run one with `python -m`."""
