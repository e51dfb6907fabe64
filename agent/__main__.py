"""The console script: Ctrl-C is heeded from the first import on."""

import os
import sys

# Threads of the numerical library wait in a loop for work of microseconds: they cost more than all
# that the agent computes with it. It reads this when it is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> None:
    """Runs the command, and ends with its status."""
    try:
        from agent.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
