"""Publish agents: lay tarballs out as hosts ask for them, and name them in a desired state."""
