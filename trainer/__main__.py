"""The console script: Ctrl-C is heeded from the first import on."""

import sys


def main() -> None:
    """Runs the command, and ends with its status."""
    try:
        from trainer.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
