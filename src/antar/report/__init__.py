"""The report: one offline page of a run, and its figures as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antar.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    # On demand: the browser shares this room's words and should not wait for matplotlib.
    if name == "write_report":
        from antar.report import page

        return page.write_report
    raise AttributeError(f"module 'antar.report' has no attribute {name!r}")
