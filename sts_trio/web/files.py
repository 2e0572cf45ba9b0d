"""The page's own files, and the headers that keep it to them."""

from importlib import resources
from types import MappingProxyType

from quart import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# Nothing from elsewhere, nothing inline, nothing framed. 'self' includes the websocket of the same
# host (CSP level 3), and AudioWorklet modules count as scripts.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)

HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)


class Files:
    """All of `static`, read once; there is no other way to a file."""

    def __init__(self) -> None:
        self._files = {
            file.name: (_TYPES[suffix], file.read_bytes())
            for file in resources.files(__package__).joinpath("static").iterdir()
            if (suffix := file.name.rpartition(".")[2]) in _TYPES  # and nobody's .DS_Store
        }

    def get(self, name: str) -> Response | None:
        if name not in self._files:
            return None
        content_type, data = self._files[name]
        # Asked for each time: the page of an older version would not know the server of a newer.
        return Response(
            data, content_type=content_type, headers={**HEADERS, "Cache-Control": "no-cache"}
        )
