"""`make bench`: all parts, or those that ARGS names. Prints tables; never judges a time.

BENCH_OUT names a file for the figures, one a line of JSON: see `benchmarks.figures`.
"""

import argparse
import os
from importlib import import_module

from benchmarks import figures

PARTS = {
    "requests": "benchmarks.requests",
    "scale": "benchmarks.scale",
    "refusals": "benchmarks.refusals",
}
"""A part is a module with a `main(arguments)`."""


def main() -> None:
    """Run the parts; options that follow are the part's own."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar=" | ".join(PARTS))
    given, arguments = parser.parse_known_args()
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    figures.begin()
    for part in given.parts or PARTS:
        import_module(PARTS[part]).main(arguments)


if __name__ == "__main__":
    main()
