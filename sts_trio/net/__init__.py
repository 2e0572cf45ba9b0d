"""Sockets and time slices: streams, the poller, the ticker, and Hypercorn guarded. No language."""
