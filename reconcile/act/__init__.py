"""Do: the only part that changes anything."""
