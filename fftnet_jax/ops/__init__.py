"""What the mathematics needs."""
