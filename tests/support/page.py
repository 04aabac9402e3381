"""A browser without a screen: keeps the cookie, sends forms as they stand in the page, and checks each page it gets.

browser = await log_in(api, make_token(db, "admin"))
page = await browser.get("/webhooks/1")
await browser.press(page, do="pause")
"""

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import html5lib
from multidict import CIMultiDictProxy

from pgrelay.page.gate import COOKIE
from support.api import Api

_NAME = "{http://www.w3.org/1999/xhtml}"
_LEADING = ("href", "src", "action")


class Seen(NamedTuple):
    """A page that came back. `root` has its elements without namespaces."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    root: ElementTree.Element
    cookies: dict[str, Any]

    @property
    def words(self) -> str:
        """What is read in it, spaces made one."""
        return " ".join("".join(self.root.itertext()).split())

    def all(self, tag: str, **attributes: str) -> list[ElementTree.Element]:
        return [
            one
            for one in self.root.iter(tag)
            if all(one.get(name) == value for name, value in attributes.items())
        ]


class Browser:
    """Logged in with one token, or with none."""

    def __init__(self, api: Api, token: str | None = None) -> None:
        self._api = api
        self.token = token

    async def request(self, method: str, path: str, **options: Any) -> Seen:
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers["Cookie"] = f"{COOKIE}={self.token}"
        async with self._api.session.request(
            method, f"{self._api.url}{path}", headers=headers, allow_redirects=False, **options
        ) as answer:
            text = await answer.text()
            cookies = dict(answer.cookies)
            self._api.session.cookie_jar.clear()
            root = _parsed(text) if answer.content_type == "text/html" else ElementTree.Element("none")
            return Seen(answer.status, answer.headers, text, root, cookies)

    async def get(self, path: str, **options: Any) -> Seen:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **fields: str) -> Seen:
        return await self.request("POST", path, data=fields)

    async def press(self, page: Seen, /, action: str | None = None, **fields: str) -> Seen:
        """Send the form of the page whose buttons or hidden fields have these values, with `fields` typed in."""
        for form in page.all("form", method="post"):
            there = {one.get("name"): one.get("value") or "" for one in form.iter("input")}
            there |= {one.get("name"): "".join(one.itertext()) for one in form.iter("textarea")}
            for select in form.iter("select"):
                there[select.get("name")] = next(
                    (one.get("value") for one in select.iter("option") if one.get("selected") is not None), ""
                )
            buttons = {(one.get("name"), one.get("value")) for one in form.iter("button")}
            fits = "do" not in fields or fields["do"] == there.get("do") or ("do", fields["do"]) in buttons
            if fits and form.get("action") != "/logout" and (action is None or form.get("action") == action):
                given = {str(name): str(value) for name, value in {**there, **fields}.items() if name}
                return await self.post(form.get("action") or "", **given)
        raise AssertionError(f"there is no such form: {page.words}")


async def log_in(api: Api, token: str) -> Browser:
    """With the form, as a person does."""
    browser = Browser(api)
    came = await browser.press(await browser.get("/login"), token=token)
    assert came.status == 303, came.words
    assert came.cookies[COOKIE].value == token
    return Browser(api, token)


def _parsed(text: str) -> ElementTree.Element:
    """Well-formed HTML that asks nothing of other hosts and that a screen reader finds its way in."""
    root: ElementTree.Element = html5lib.HTMLParser(strict=True).parse(text)
    for one in root.iter():
        one.tag = str(one.tag).removeprefix(_NAME)
        for name in _LEADING:
            place = urlsplit(one.get(name) or "")
            assert not place.scheme and not place.netloc, one.attrib
        assert one.get("style") is None and not [name for name in one.attrib if str(name).startswith("on")]
    assert not [one for one in root.iter("script") if one.get("src") is None or one.text]
    assert not list(root.iter("style"))
    assert not re.search("https?://", re.sub('href="[^"]*"', "", _markup(root)))
    known = {one.get("id") for one in root.iter() if one.get("id")}
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids)), "an id comes twice"
    for one in root.iter():
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((one.get(name) or "").split()) <= known, one.attrib
    labelled = {one.get("for") for one in root.iter("label")}
    for tag in ("input", "select", "textarea"):
        for one in root.iter(tag):
            assert one.get("type") == "hidden" or one.get("id") in labelled, one.attrib
    for table in root.iter("table"):
        assert table.find("caption") is not None
        assert all(head.get("scope") for head in table.iter("th"))
    assert len(list(root.iter("main"))) == 1 and len(list(root.iter("h1"))) == 1
    return root


def _markup(root: ElementTree.Element) -> str:
    """Attributes that make a browser ask for something."""
    return " ".join(
        value
        for one in root.iter()
        for name, value in one.attrib.items()
        if name in ("src", "srcset", "data")
    )
