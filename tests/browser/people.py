"""People at browsers, and what their consoles said."""

from collections.abc import Callable, Iterator
from typing import Any

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    Response,
)

from tests.site import FIREFOX, PASSWORD

WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

# What Chromium remarks and nothing is wrong with: the header did its work; the form was typed into
# before the page came to focus it.
_REMARKS = ("Clear-Site-Data header on", "Autofocus processing was blocked")

_REPORT_CSP = """addEventListener("securitypolicyviolation",
    (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`))"""


class Console:
    """What went wrong in the browsers of a test: nothing may."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []
        self._pages_with_errors: set[str] = set()

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self._add("", f"error: {error.error}"))
        context.on("requestfailed", self._failed)
        context.on("dialog", self._dialog)
        context.on("response", self._response)
        context.add_init_script(_REPORT_CSP)

    @property
    def findings(self) -> list[str]:
        """All that was said, but for the browser's own line about a page of a status from 400 on."""
        return [
            f"{url} {text}"
            for url, text in self._said
            if not (url in self._pages_with_errors and text.startswith("error: Failed to load"))
        ]

    def forget(self) -> None:
        """Forget what a test provoked."""
        self._said.clear()

    def _add(self, url: str, text: str) -> None:
        self._said.append((url, text))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "info" and message.text.startswith(_REMARKS):
            return
        self._add(message.location["url"], f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A person who clicks on does not wait for the icon of the page before.
        if request.failure != "net::ERR_ABORTED":
            self._add(request.url, f"not loaded: {request.failure}")

    def _dialog(self, dialog: Dialog) -> None:
        self._add(dialog.page.url if dialog.page else "", f"dialog: {dialog.message}")
        dialog.dismiss()

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type == "document":
            self._pages_with_errors.add(response.url)


class Person:
    """Somebody at a browser of their own."""

    def __init__(
        self, name: str, context: BrowserContext, url: str, password: str = PASSWORD
    ) -> None:
        self.name = name
        self.context = context
        self.url = url
        self.password = password
        self.page: Page = context.new_page()

    def open(self, path: str) -> Response:
        response = self.page.goto(self.url + path)
        assert response is not None
        return response

    def sign_in(self, page: str = "/login") -> "Person":
        self.open(page)
        self.page.get_by_label("User name").fill(self.name)
        self.page.get_by_label("Password").fill(self.password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda url: "/login" not in url)
        return self

    def sign_out(self) -> None:
        self.page.get_by_role("banner").get_by_role("button", name="Sign out").click()
        self.page.wait_for_url("**/login?signed_out=1")

    def click(self, role: Any, name: str) -> None:
        self.page.get_by_role(role, name=name, exact=True).click()

    def box_of(self, user: str) -> Locator:
        """The box that ticks this user's session: of a row's whole text, its reference may be the match."""
        return self.page.get_by_role("checkbox", name=f"Tick the session of {user},")

    @property
    def text(self) -> str:
        """What the page's main part says, once the parser has come to its end."""
        self.page.wait_for_load_state("domcontentloaded")
        return self.page.locator("main").inner_text()

    @property
    def cookies(self) -> dict[str, Any]:
        return {str(cookie["name"]): cookie for cookie in self.context.cookies()}


NewContext = Callable[..., BrowserContext]


class People:
    """Hands out browsers at one site; each is a context with cookies of its own."""

    def __init__(self, new_context: NewContext, url: str, password: str = PASSWORD) -> None:
        self._new_context = new_context
        self._url = url
        self._password = password
        self.console = Console()

    def at_browser(self, name: str, user_agent: str = FIREFOX, **options: Any) -> Person:
        """Return a person whose browser is open and signed in nowhere."""
        options = {"viewport": WIDE, "reduced_motion": "reduce", **options}
        context = self._new_context(user_agent=user_agent, **options)
        context.set_default_timeout(20_000)
        self.console.listen(context)
        return Person(name, context, self._url, self._password)

    def signed_in(self, name: str, user_agent: str = FIREFOX, **options: Any) -> Person:
        """Return a person who has signed in through the form."""
        return self.at_browser(name, user_agent, **options).sign_in()


def watched(new_context: NewContext, url: str) -> Iterator[People]:
    """Yield people; when the test is over, no console may have said anything."""
    people = People(new_context, url)
    yield people
    assert not people.console.findings, "\n".join(people.console.findings)
