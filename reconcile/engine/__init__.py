"""A pass from its beginning to its end."""
