"""Talk to people and servers."""
