"""What a page is made of, and the page itself."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from restore.files import write_atomically


@dataclass(frozen=True)
class Table:
    """Rows, of which some may lack a key; each column can be sorted by.

    Attributes:
        rows: words and numbers; of a number, `decimals` says how many are shown.
        note: above the table.
    """

    title: str
    rows: Sequence[Mapping[str, str | float]]
    note: str = ""
    kind: Literal["table"] = "table"

    @property
    def columns(self) -> dict[str, bool]:
        """All headings, and whether numbers are below them."""
        return {heading: not isinstance(value, str) for row in self.rows for heading, value in row.items()}


@dataclass(frozen=True)
class Figure:
    """A picture, as a data URI, and what it shows."""

    title: str
    image: str
    caption: str = ""
    kind: Literal["figure"] = "figure"


class View(NamedTuple):
    """One version of an image.

    Attributes:
        label: `input`, `restored`, `truth`.
        image: the whole of it, as a data URI.
        crop: a part of it, pixel by pixel, as a data URI.
    """

    label: str
    image: str
    crop: str


@dataclass(frozen=True)
class Comparison:
    """An image before and after: the first view against each of the others, with a slider between the two."""

    title: str
    views: Sequence[View]
    width: int
    height: int
    facts: Sequence[str] = ()
    kind: Literal["comparison"] = "comparison"


Section = Table | Figure | Comparison


def decimals(column: str, value: float) -> str:
    """A number as the field writes it: SSIM with four decimals, whole numbers with none, all else with two."""
    return f"{value:.4f}" if "SSIM" in column else str(value) if isinstance(value, int) else f"{value:.2f}"


def data_uri(content: bytes, kind: str) -> str:
    """`content` of the media type `kind`, such as image/png, as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def write_page(
    path: Path, title: str, sections: Sequence[Section], settings: Mapping[str, object], summary: str = ""
) -> None:
    """Write a page atomically. Whatever text is given is shown as it is, never taken as HTML.

    Raises:
        UserError: the file cannot be written.
    """
    folder = files("restore.page")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["decimals"] = decimals
    template = environment.from_string(folder.joinpath("page.html").read_text())
    style, script = (Markup(folder.joinpath(name).read_text()) for name in ("page.css", "page.js"))
    shown = {name: _words(value) for name, value in settings.items()}
    html = template.render(title=title, sections=sections, settings=shown, summary=summary, style=style, script=script)
    write_atomically(path, html)


def _words(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {item}" for name, item in value.items())
        case list() | tuple():
            return " ".join(map(str, value))
    return str(value)
