"""Looking at a run: its features, a feature, base against chat, its dictionaries, its criteria."""

from __future__ import annotations

from antar.web.explore.pages import links, routes
from antar.web.shell import Section

SECTION = Section(__name__, links, routes)
