"""Asks the agent in this container whether it is ready: the image's health check.

Runs with the standard library alone, once in ten seconds. Exit status 0 where `/readyz` says yes;
else 1, and the reason on standard output, where the container engine keeps it.
"""

import os
import sys
import urllib.error
import urllib.request

#: Less than the time that the engine gives a check.
_SECONDS = 4.0


def main() -> int:
    """Asks once."""
    port = os.environ.get("CROSYSLOG_HTTP__PORT", "9464")
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace").strip())
    except OSError as error:
        print(f"no answer from port {port}: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
