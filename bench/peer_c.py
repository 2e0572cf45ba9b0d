"""The limit: compiles `relay.c` where it is started, and becomes it.

PORT=5000 DEEPGRAM_URL=ws://127.0.0.1:5001/v1/agent/converse FORWARD_MS=60 python peer_c.py
"""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

SOURCE = Path(__file__).with_name("relay.c")
BINARY = Path("relay").absolute()


def main() -> None:
    agent = urlsplit(os.environ["DEEPGRAM_URL"])
    if agent.scheme != "ws":
        sys.exit("peer_c: the relay in C has no TLS")
    subprocess.run(["cc", "-O2", "-o", str(BINARY), str(SOURCE), "-lcrypto"], check=True)
    os.execve(BINARY, [str(BINARY)], {**os.environ, "AGENT_PORT": str(agent.port)})


if __name__ == "__main__":
    main()
