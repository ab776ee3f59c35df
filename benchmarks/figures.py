"""What was measured: a line of JSON for each figure, in the file that BENCH_OUT names.

Names read from the general to the particular, `request.redis.read.ratio_to_flask_session`, so that
a file of another day or another machine can be held beside it.
"""

import json
import os
from pathlib import Path


def begin() -> None:
    """Empty the file, if one is named."""
    if path := os.environ.get("BENCH_OUT"):
        Path(path).write_text("")


def record(name: str, value: float, unit: str, n: int) -> None:
    """Write a figure that stands for `n` measurements. Ratios have the unit `ratio`."""
    if path := os.environ.get("BENCH_OUT"):
        figure = {"name": name, "value": round(value, 4), "unit": unit, "n": n}
        with Path(path).open("a") as lines:
            lines.write(json.dumps(figure) + "\n")
