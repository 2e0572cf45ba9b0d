"""What both legs ask of a TCP socket."""

import socket

import trio

# A peer that vanished acknowledges nothing: after this long the kernel gives the connection up.
LOST_AFTER = 20.0


def watch_for_loss(stream: trio.SocketStream) -> None:
    """Has the kernel end the connection when sent data stays unacknowledged (where it can)."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(LOST_AFTER * 1000))
