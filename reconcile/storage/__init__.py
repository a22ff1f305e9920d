"""What is remembered between passes."""
