"""A demo that runs: started without make, in a copy of the project, with a browser for whoever looks."""

import re
from random import Random

from demo.browser import Browser
from demo.cast import VISITORS, Person
from demo.places import Place
from demo.visits import Visit
from tests.test_make_run import Run

FEW = ("-m", "demo", "--members", "14", "--staff", "8")
HERE = Place("198.18.0.7", "curl/8.14.1")

READ = 0.5
"""The chance that makes `Visit.step` read."""


class Always(Random):
    """A chance that always turns out alike."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


class Demo(Run):
    """One `make demo` of a few people, without make."""

    command = FEW

    @property
    def sign_ins(self) -> dict[str, str]:
        """The names and passwords that it prints."""
        return dict(re.findall(r"^  (demo-\w+) +(\S+) ", self.text, re.MULTILINE))

    def visit(self, name: str, chance: Always) -> Visit:
        """Return a visit whose chances are the test's."""
        person = Person(name, VISITORS[name], (HERE,))
        url = f"http://127.0.0.1:{self.port}/"
        return Visit(person, Browser(url, HERE, lambda: None), self.sign_ins[name], chance)

    def as_visitor(self, name: str) -> Browser:
        visit = self.visit(name, Always(READ))
        assert visit.sign_in()
        return visit.browser
