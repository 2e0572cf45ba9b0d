import ssl

from sts_trio.net.tls import trusted


def test_there_is_one_context_for_the_process() -> None:
    """Building one takes longer than a call's whole handshake."""
    assert trusted() is trusted()


def test_a_peer_has_to_prove_who_it_is() -> None:
    assert trusted().verify_mode is ssl.CERT_REQUIRED
    assert trusted().check_hostname
