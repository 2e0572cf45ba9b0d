"""The flight recorder: what the dialogue of a call heard, and the same call again, exactly."""
