"""Change the machine, with the standard library only."""
