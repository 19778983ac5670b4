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
from antar.report.answer import answer_section
from antar.report.baselines import baselines_section
from antar.report.blocks import Badge, Block, Figures, Heading, Section, Value
from antar.report.changed import changed_section
from antar.report.confounds import confounds_section
from antar.report.corpus import corpus_section
from antar.report.criteria import criteria_section
from antar.report.crosscheck import crosscheck_section
from antar.report.dictionaries import dictionaries_section
from antar.report.dropped import dropped_section
from antar.report.effects import effect_plots, effects_section
from antar.report.energy import energy_plots, energy_section
from antar.report.figures import Drawn, Plot, draw_plot
from antar.report.geometry import geometry_section
from antar.report.labels import labels_section
from antar.report.markdown import render_markdown
from antar.report.method import chat_template_words, limits_section, method_section
from antar.report.reproduce import reproduce_section
from antar.report.saebench import saebench_section
from antar.report.sources import at, quoted
from antar.report.tex import render_tables
from antar.report.truth import truth_section
from antar.report.words import Prose
from antar.run import Run

PAGE, MARKDOWN, TABLES = "index.html", "report.md", "tables.tex"
FORMATS = {"html": PAGE, "md": MARKDOWN, "tex": TABLES}


def figures_section(run: Run) -> Section:
    blocks: list[Block] = []
    for title, plots in (
        ("How far the models lie apart on cultural texts", energy_plots(run)),
        ("How large effects are", effect_plots(run)),
    ):
        if plots:
            blocks += [Heading(title), Figures(plots)]
    return Section("figures", "Figures", blocks)


SECTIONS: tuple[Callable[[Run], Section], ...] = (
    answer_section,
    criteria_section,
    figures_section,
    changed_section,
    dropped_section,
    limits_section,
    reproduce_section,
    # The appendix: what stands behind the sections above, in the order in which it was made.
    method_section,
    corpus_section,
    dictionaries_section,
    geometry_section,
    energy_section,
    effects_section,
    confounds_section,
    baselines_section,
    labels_section,
    saebench_section,
    crosscheck_section,
    truth_section,
)
"""What a reader wants, in that order. A section without a block is left out."""


@dataclass(frozen=True)
class Head:
    """What stands above the first section."""

    study: Prose
    question: Prose
    names: Mapping[str, str]
    reading: Prose = ""
    version: str = __version__


def write_report(run: Run) -> Path:
    """Write `report/index.html`, `report.md`, `tables.tex` and `figures/*.{svg,pdf}` into the run folder; return the
    page's path.

    The three are made of the same blocks, and the same run gives the same bytes. Parts that a run does not have (a
    planted truth, a sham, labels, people) are said to be missing where they would stand.
    """
    folder = run.folder / "report"
    head, sections = head_of(run), sections_of(run)
    write_text(folder / PAGE, render_page(head, sections, lambda plot: draw_plot(plot, folder / "figures")))
    write_text(folder / MARKDOWN, render_markdown(head, sections))
    write_text(folder / TABLES, render_tables(head, sections))
    return folder / PAGE


def sections_of(run: Run) -> list[Section]:
    return [section for section in (make(run) for make in SECTIONS) if section.blocks]


def head_of(run: Run) -> Head:
    study = run.study
    name, question = (
        quoted(study[key], at("study.yaml", key)) if study.get(key) else "" for key in ("study", "question")
    )
    return Head(name or run.folder.name, question, run.names, chat_template_words(run))


def render_page(head: Head, sections: list[Section], drawn: Callable[[Plot], Drawn]) -> str:
    sheet = style_sheet()
    template = environment().get_template("page.html.j2")
    return (
        template.render(head=head, sections=sections, drawn=drawn, style=Markup(sheet), policy=content_policy(sheet))
        + "\n"
    )


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
        "pieces": words.pieces,
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
