"""Plans for many hosts, offline."""
