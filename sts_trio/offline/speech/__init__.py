"""The offline agent's voice."""
