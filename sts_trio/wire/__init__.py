"""The languages of our peers: messages as frozen structs, `decode` and `encode`.

Pure: bytes in, messages out. No sockets, no clock, no tasks. Every `decode` is total: for any
bytes it returns a message we know, `Unknown` for one we do not, or `Malformed` with the reason.
"""
