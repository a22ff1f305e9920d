"""What this host allows: an answer becomes accepted agents and refusals, each of which names its rule."""
