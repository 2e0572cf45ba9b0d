"""The offline agent's ears."""
