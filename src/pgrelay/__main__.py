"""python -m pgrelay, and what the command `pgrelay` runs."""

import sys


def run() -> int:
    """Run the command that was typed; its exit code."""
    try:
        from pgrelay.cli.main import main

        return main()
    except KeyboardInterrupt:  # so early that nothing was begun
        return 130


if __name__ == "__main__":
    sys.exit(run())
