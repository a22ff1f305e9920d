"""The whole story on one machine, without a server, a config or root."""
