"""python -m tinydl: the command line."""
import sys

from tinydl.cli import main

if __name__ == "__main__":
    sys.exit(main())
