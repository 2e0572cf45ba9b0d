"""TLS as a client."""

import functools
import ssl


@functools.cache
def trusted() -> ssl.SSLContext:
    """For whom this machine trusts. One for the process: it takes 20 ms of CPU to build, so a
    server that will need it builds it before there are calls."""
    return ssl.create_default_context()
