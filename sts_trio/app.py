"""`app`, for `hypercorn sts_trio.app:app --worker-class trio`, configured by the environment."""

import sys

from sts_trio import config
from sts_trio.errors import ConfigError
from sts_trio.web.app import create_app

try:
    app = create_app(config.from_environment())
except ConfigError as exc:
    print(f"sts_trio: {exc}", file=sys.stderr)
    raise SystemExit(2) from None
