"""The updater's version, in this one place: setup.cfg, heartbeat, `/version` and `--version` read it from here."""

VERSION = "0.1.0"
