"""The demonstration: five calls through the real server."""
