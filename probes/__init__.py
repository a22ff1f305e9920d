"""Read the host: the ground that the other packages stand on."""
