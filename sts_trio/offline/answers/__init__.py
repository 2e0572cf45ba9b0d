"""What the offline agent understands, and what it answers."""
