"""Make releases: packs, Debian packages, and all that a release publishes."""
