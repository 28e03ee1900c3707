"""`python -m polyactors`."""

import sys

from polyactors.cli import main

if __name__ == "__main__":
    sys.exit(main())
