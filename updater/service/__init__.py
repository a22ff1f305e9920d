"""Passes one after another: the daemon, `apply`, and what both need."""
