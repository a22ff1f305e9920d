"""The commands, one module for each kind; each is loaded when one of its own was typed."""
