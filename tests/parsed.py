"""What a page of ours holds, for tests to look at."""

import re
from html.parser import HTMLParser


class Parsed(HTMLParser):
    """What a page holds: elements with their attributes in order, tables as rows of text, all text.

    numbers: the tables of figures' numbers, which are folded; they are not among the others.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.numbers: list[list[list[str]]] = []
        self.text = ""
        self._folded = False
        self._cell = False
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = self._hidden or tag == "style"
        self._folded = self._folded or tag == "details"
        if tag == "table":
            self._own.append([])
        elif tag == "tr":
            self._own[-1].append([])
        elif tag in {"td", "th"}:
            self._cell = True
            self._own[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = self._hidden and tag != "style"
        self._folded = self._folded and tag != "details"
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
        if self._cell:
            self._own[-1][-1][-1] += data

    @property
    def _own(self) -> list[list[list[str]]]:
        return self.numbers if self._folded else self.tables

    def attributes(self, *names: str) -> list[str]:
        return [str(attrs[name]) for _, attrs in self.elements for name in names if name in attrs]

    def is_self_contained(self, html: str) -> None:
        """Insist that nothing in it is fetched from anywhere."""
        assert all(
            source.startswith("data:") for source in self.attributes("src", "srcset", "data", "poster")
        )
        assert not {tag for tag, _ in self.elements} & {"script", "link", "iframe", "object", "base"}
        addresses = [str(attrs["href"]) for tag, attrs in self.elements if tag != "a" and "href" in attrs]
        assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
        assert "@import" not in html
        assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", html))
