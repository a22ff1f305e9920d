"""When: a pass, a fetch, a change of content. Pure."""
