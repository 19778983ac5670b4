"""The report: one offline page of a run, and its figures as files."""

from antar.report.page import write_report

__all__ = ["write_report"]
