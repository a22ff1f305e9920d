"""One module for each family of actions."""
