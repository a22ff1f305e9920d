"""What is remembered of an agent between passes: content, the record, and how it changes. Pure."""
