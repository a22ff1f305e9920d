"""HTTP, and what remote files say."""
