"""The reading half of a pass: observe, exchange, decide. An import contract keeps it away from what acts."""
