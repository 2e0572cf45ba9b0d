"""A running server, asked as its operator: with the admin token, or the key of its run."""

import http.client
import re
from urllib.parse import SplitResult, urlsplit

from sts_trio.commands.client import Asked
from sts_trio.commands.common import Misuse

CONNECT_TIMEOUT = 10.0


class Unreachable(Exception):
    """There was no connection, so nothing was asked."""


class Operator:
    """The server at `url`, asked as its operator. Every question may raise `Unreachable`.

    Raises:
        ConfigError: the environment or the file is not as it should be.
        Misuse: that is no URL, or one that would give the admin token away.
    """

    def __init__(self, url: str) -> None:
        from sts_trio import config

        # Who only asks needs no agent.
        self._token = config.from_environment(STS_AGENT="offline").admin_token
        self.has_token = self._token is not None
        self.url = url.rstrip("/")
        self._parts = _parts(self.url)
        local = self._parts.hostname in ("127.0.0.1", "::1", "localhost")
        if self._token is not None and self._parts.scheme == "http" and not local:
            raise Misuse(
                f"--url {url}: the admin token would cross the network unencrypted:"
                " expected https://, or a server on this machine"
            )

    def ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str], timeout: float
    ) -> Asked:
        """
        Raises:
            Unreachable: there was no connection.
            OSError, http.client.HTTPException: no answer, which does not mean no.
        """
        from sts_trio.config import local_key

        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=CONNECT_TIMEOUT)
        if self._token is not None:
            headers = headers | {"Authorization": f"Bearer {self._token}"}
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError) as exc:  # of a name that none can be
                raise Unreachable(reason_of(exc)) from None
            key = None if self._token is not None else local_key.of_peer(connection.sock)
            if key is not None:
                headers = headers | {"Authorization": f"Bearer {key}"}
            return Asked(connection, timeout, method, self._parts.path + path, body, headers)
        except BaseException:
            connection.close()
            raise


def _parts(url: str) -> SplitResult:
    expected = f"--url {url}: expected a URL like http://127.0.0.1:5000"
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        raise Misuse(expected) from None
    known = parts.scheme in ("http", "https") and parts.hostname and not parts.query
    if not re.fullmatch("[!-~]+", url) or not known:
        raise Misuse(expected)
    return parts


def reason_of(exc: Exception) -> str:
    return str(getattr(exc, "strerror", None) or exc or type(exc).__name__)
