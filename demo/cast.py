"""Who is in the demo: invented people of many places, and five sign-ins that nobody simulates."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from app.people.models import Role
from demo.places import Place, places

VISITORS = {f"demo-{role.value}": role for role in Role}
"""The sign-ins for whoever started the demo, one per role. The simulation leaves them alone."""

_STAFF = (
    Role.OPERATOR, Role.VIEWER, Role.ADMIN, Role.AUDITOR,
    Role.OPERATOR, Role.VIEWER, Role.OPERATOR, Role.VIEWER,
)  # fmt: skip

# Given names and family names, by language. Every pair is somebody, so the two lists are short.
_NAMES: tuple[tuple[str, str], ...] = (
    ("emma liam olivia noah grace owen ruth", "walker hughes bennett carter oneill fraser"),
    ("anna lukas jana felix miriam jonas", "schäfer krüger vogel lindner weiß brandt"),
    ("chloé hugo inès théo margot rémi", "moreau lefèvre garnier dubois chevalier"),
    ("lucía mateo irene álvaro nuria pablo", "ibáñez muñoz serrano vidal quintana"),
    ("giulia matteo chiara davide elisa", "rossi ferrara conti marchetti"),
    ("zofia jakub maja antoni łucja", "wójcik mazur kaczmarek duda"),
    ("amara chidi ngozi tunde ifeoma", "okafor eze adeyemi balogun"),
    ("aiko haruto yuki ren sakura", "nakamura fujita ogawa hayashi"),
    ("priya arjun meera rohan kavya", "nair kapoor iyer mehta"),
    ("joão beatriz tiago mariana rafael", "silva carvalho teixeira moura"),
    ("ingrid lars astrid nils freja", "lindqvist dahl sørensen berg"),
    ("leyla emre zeynep deniz", "yılmaz şahin öztürk aydın"),
    ("linh minh thảo quân", "nguyễn trần phạm đặng"),
    ("ольга дмитрий анна сергей", "ковальчук шевченко мельник"),
    ("δήμητρα νίκος ελένη γιώργος", "παππάς νικολάου αλεξίου"),
    ("李 陈 林 黄", "静 伟 晓明 雅婷"),
    ("김 박 이 최", "지우 서연 민준 하은"),
    ("佐藤 高橋 渡辺", "葵 蓮 陽菜"),
    ("نور يوسف مريم عمر", "حداد منصور خليل"),
)
_WITHOUT_DOT = frozenset("李김佐")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is simulated, and where they sign in from."""

    name: str
    role: Role
    places: tuple[Place, ...]

    @property
    def home(self) -> Place:
        """Return a place outside every office."""
        return self.places[1]

    @property
    def may_revoke(self) -> bool:
        return self.role in (Role.OPERATOR, Role.ADMIN)


def most_people() -> int:
    """Return how many people there are names for."""
    return sum(len(given.split()) * len(family.split()) for given, family in _NAMES)


def people(members: int, staff: int) -> list[Person]:
    """Return the same people for the same numbers: staff first, as their accounts are older."""
    roles = [*islice(cycle(_STAFF), staff), *[Role.MEMBER] * members]
    # Who somebody is does not depend on what happens, so this has a chance of its own.
    random = Random(1)
    return [
        Person(name, role, places(random, number))
        for number, (name, role) in enumerate(zip(_names(random), roles, strict=False))
    ]


def _names(random: Random) -> Iterator[str]:
    """Yield different names, shuffled."""
    found = []
    for given, family in _NAMES:
        joint = "" if given[0] in _WITHOUT_DOT else "."
        found += [f"{a}{joint}{b}" for a in given.split() for b in family.split()]
    random.shuffle(found)
    yield from found
