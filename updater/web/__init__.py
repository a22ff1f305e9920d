"""Local HTTP: the inherited paths, /status, /metrics and a page for people. It only looks."""
