"""Decide: pure values and functions, without machine, clock, network or log."""
