"""The offline agent's side of the Voice Agent protocol."""
