"""Where simulated people sit: invented browsers, and addresses that belong to nobody.

The addresses are private ones and those that RFC 5737 and RFC 3849 set aside for documentation.
"""

from dataclasses import dataclass
from random import Random

_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7"
_LINUX = "Mozilla/5.0 (X11; Linux x86_64"
_IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_WEBKIT}"
_IPAD = f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {_WEBKIT}"
_GALAXY = "Mozilla/5.0 (Linux; Android 15; SM-S931B)"

DESKTOPS = (
    f"{_WINDOWS}) {_BLINK} Chrome/141.0.0.0 Safari/537.36",
    f"{_WINDOWS}) {_BLINK} Chrome/142.0.0.0 Safari/537.36",
    f"{_WINDOWS}) {_BLINK} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
    f"{_WINDOWS}) {_BLINK} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    f"{_WINDOWS}; rv:144.0) Gecko/20100101 Firefox/144.0",
    f"{_MAC}) {_WEBKIT} Version/18.6 Safari/605.1.15",
    f"{_MAC}) {_WEBKIT} Version/26.0 Safari/605.1.15",
    f"{_MAC}) {_BLINK} Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:144.0) Gecko/20100101 Firefox/144.0",
    f"{_LINUX}; rv:140.0) Gecko/20100101 Firefox/140.0",
    f"{_LINUX}; rv:144.0) Gecko/20100101 Firefox/144.0",
    f"{_LINUX}) {_BLINK} Chrome/142.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {_BLINK} Chrome/140.0.0.0 Safari/537.36",
)
PHONES = (
    f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} Version/26.0 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} CriOS/142.0.7444.46 Mobile/15E148 Safari/604.1",
    f"{_IPAD} Version/18.5 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 16; Pixel 9) {_BLINK} Chrome/142.0.0.0 Mobile Safari/537.36",
    f"{_GALAXY} {_BLINK} Chrome/141.0.0.0 Mobile Safari/537.36",
    f"{_GALAXY} {_BLINK} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Android 16; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0",
)
SCRIPT = "curl/8.14.1"

OFFICES = ("10.12.4", "10.12.5", "10.31.0", "10.31.8", "10.64.20", "10.77.3")
_HOMES = ("192.0.2", "198.51.100", "203.0.113")


@dataclass(frozen=True, slots=True)
class Place:
    """A browser at an address."""

    ip: str
    user_agent: str


def updated(user_agent: str) -> str:
    """Return what a browser calls itself after its update."""
    for old, new in (("Chrome/141", "Chrome/142"), ("Edg/141", "Edg/142"), ("OS 18_5", "OS 18_6")):
        user_agent = user_agent.replace(old, new)
    return user_agent


def places(random: Random, number: int) -> tuple[Place, ...]:
    """Return where one person signs in from: the office, home, a phone; few use a script."""
    office = f"{random.choice(OFFICES)}.{random.randint(10, 250)}"
    desktop = random.choice(DESKTOPS)
    home = f"{random.choice(_HOMES)}.{random.randint(1, 254)}"
    mobile = f"2001:db8:{random.randint(1, 0xFFF):x}:{number:x}::{random.randint(1, 0xFFFF):x}"
    found = [
        Place(office, desktop),
        Place(home, desktop if random.random() < 0.4 else random.choice(DESKTOPS)),
        Place(mobile if random.random() < 0.6 else home, random.choice(PHONES)),
    ]
    if random.random() < 0.04:
        found.append(Place(office, SCRIPT))
    return tuple(found)
