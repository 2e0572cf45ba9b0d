"""The demonstration: four calls through the real server."""
