"""python -m pgrelay."""

import sys

from pgrelay.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
