"""`make bench`: all parts, or those that ARGS names. Prints tables; never judges a time.

BENCH_OUT names a file for the figures, one a line of JSON: see `benchmarks.figures`.
"""

import argparse
import os
from importlib import import_module

from benchmarks import figures

PARTS = {"requests": "benchmarks.requests"}
"""A part is a module with a `main()`."""


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar=" | ".join(PARTS))
    chosen = parser.parse_args().parts or list(PARTS)
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    figures.begin()
    for part in chosen:
        import_module(PARTS[part]).main()


if __name__ == "__main__":
    main()
