"""`updater check`: is this host fit, and what do its rules protect from? One line each, with the remedy."""
