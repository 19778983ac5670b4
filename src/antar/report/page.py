"""The page: sections in their order, rendered to one file that loads nothing.

Its content policy allows the one style sheet that is in it (by its hash) and images that are in it, and nothing
else: no script, no font, no request. So even a text that broke out of its element could not do anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from antar import __version__
from antar.core.atomic import write_text
from antar.report import text as words
from antar.report.baselines import baselines_section
from antar.report.blocks import Badge, Section, Value
from antar.report.changed import changed_section
from antar.report.confounds import confounds_section
from antar.report.corpus import corpus_section
from antar.report.criteria import criteria_section
from antar.report.crosscheck import crosscheck_section
from antar.report.dictionaries import dictionaries_section
from antar.report.effects import effects_section
from antar.report.energy import energy_section
from antar.report.figures import Drawn, Plot, draw_plot
from antar.report.geometry import geometry_section
from antar.report.labels import labels_section
from antar.report.method import chat_template_words, limits_section, method_section
from antar.report.saebench import saebench_section
from antar.report.truth import truth_section
from antar.run import Run

SECTIONS: tuple[Callable[[Run], Section], ...] = (
    criteria_section,
    truth_section,
    energy_section,
    geometry_section,
    dictionaries_section,
    effects_section,
    confounds_section,
    crosscheck_section,
    baselines_section,
    labels_section,
    saebench_section,
    changed_section,
    corpus_section,
    method_section,
    limits_section,
)


@dataclass(frozen=True)
class Head:
    """What a reader sees first. `headline` has one sentence a line."""

    study: str
    question: str
    names: Mapping[str, str]
    headline: tuple[str, ...]
    version: str = __version__


def write_report(run: Run) -> Path:
    """Write `report/index.html` and `report/figures/*.{svg,pdf}` into the run folder; return the page's path.

    The same run gives the same bytes. Parts that a run does not have (a planted truth, a sham, labels, people) are
    said to be missing where they would stand.
    """
    folder = run.folder / "report"
    sections = [section(run) for section in SECTIONS]
    page = render_page(head_of(run), sections, lambda plot: draw_plot(plot, folder / "figures"))
    path = folder / "index.html"
    write_text(path, page)
    return path


def head_of(run: Run) -> Head:
    headline = tuple(map(str, run.criteria.get("headline") or ())) if run.has("criteria.json") else ()
    if headline:
        headline = (*headline, chat_template_words(run))
    study = run.study
    return Head(str(study.get("study") or run.folder.name), str(study.get("question") or ""), run.names, headline)


def render_page(head: Head, sections: list[Section], drawn: Callable[[Plot], Drawn]) -> str:
    sheet = style_sheet()
    template = environment().get_template("page.html.j2")
    return template.render(
        head=head, sections=sections, drawn=drawn, style=Markup(sheet), policy=content_policy(sheet)
    ) + "\n"  # fmt: skip


def environment(*packages: str) -> Environment:
    """Templates with every value escaped; a name that is not there is an error. Those of `packages` come first."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in (*packages, "antar.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "shown": words.shown,
        "number": words.number,
        "fixed": words.fixed,
        "language_of": words.language_of,
        "runs": words.runs_of_script,
        "opening": words.opening,
        "kind_of": lambda cell: (
            "badge" if isinstance(cell, Badge) else "value" if isinstance(cell, Value) else "text"
        ),
        "is_long": lambda text: len(text) > words.LONG_TEXT,
    }
    made.filters.update(filters)
    return made


def style_sheet() -> str:
    """antar's own style sheet: the one thing on the page that is not escaped, and it comes from this package."""
    return "\n" + files("antar.report").joinpath("templates/report.css").read_text(encoding="utf-8")


def content_policy(sheet: str) -> str:
    """The page's Content-Security-Policy: its own style sheet by hash, images that are in the page, nothing else."""
    digest = base64.b64encode(hashlib.sha256(sheet.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
