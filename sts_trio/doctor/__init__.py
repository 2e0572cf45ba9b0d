"""Looks at what the bridge depends on, and tells what it finds."""
