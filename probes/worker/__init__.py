"""Helper processes, one per other user, and our side of them."""
