"""The life of an upgrade."""
