"""The parser of a websocket that is over goes without the garbage collector."""

import gc
import weakref

from wsproto import ConnectionType
from wsproto.connection import Connection

from sts_trio.net.wsproto_cycle import break_cycle


def test_it_is_gone_as_soon_as_nobody_has_it() -> None:
    websocket = Connection(ConnectionType.SERVER)
    parser = weakref.ref(websocket._proto)
    gc.disable()
    try:
        break_cycle(websocket)
        del websocket
        assert parser() is None
    finally:
        gc.enable()


def test_one_that_never_was_and_one_that_is_broken_already_are_left_alone() -> None:
    break_cycle(None)
    websocket = Connection(ConnectionType.SERVER)
    break_cycle(websocket)
    break_cycle(websocket)
    websocket.receive_data(None)
    assert websocket.state.name == "CLOSED"
