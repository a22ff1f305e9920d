"""Look at the machine, with the standard library only."""
