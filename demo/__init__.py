"""`make demo`: the site of `make run`, peopled. Simulated people sign in, read, idle and are revoked.

`__main__` brings it up, `history` lays down what came before, `crowd` is the people who come and go.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTANCE = ROOT / "instance-demo"
PASSWORD_FILE = INSTANCE / "password"
