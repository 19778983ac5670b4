"""The prompt files: versioned texts in English and Hindi, filled strictly.

A file is named `ROLE.LANGUAGE.vN.md` and has two parts, `## system` and `## user`, with places `{{name}}`. A change
of its text changes its sha256, and with it the key of every call that was made from it; a new meaning gets a new
version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from antar.core.hashing import sha256_bytes

VERSION = "v1"
_PLACE = re.compile(r"\{\{([a-z_]+)\}\}")


@dataclass(frozen=True)
class Prompt:
    """name: e.g. `label.en.v1`; sha256: of the file's text"""

    name: str
    sha256: str
    system: str
    user: str

    def filled(self, places: Mapping[str, str]) -> tuple[str, str]:
        """The system and the user message. Raises ValueError where places and values do not match."""
        # The system message is the same for every question of a role, so a server reads it once.
        wanted = set(_PLACE.findall(self.user))
        if _PLACE.search(self.system):
            raise ValueError(f"{self.name}: expected places in the user part only")
        if wanted != set(places):
            raise ValueError(f"{self.name}: expected the places {sorted(wanted)}, found {sorted(places)}")
        # One pass: what is put in is never looked at again.
        return self.system, _PLACE.sub(lambda found: places[found.group(1)], self.user)


@cache
def load_prompt(role: str, language: str) -> Prompt:
    """The prompt of `label`, `validate`, `predict` or `saebench` in `en` or `hi`."""
    name = f"{role}.{language}.{VERSION}"
    text = files("antar.interpret").joinpath(f"prompts/{name}.md").read_text(encoding="utf-8")
    head, _, rest = text.partition("## system\n")
    system, middle, user = rest.partition("\n## user\n")
    if head.strip() or not middle:
        raise ValueError(f"prompts/{name}.md: expected the parts `## system` and `## user`")
    return Prompt(name, sha256_bytes(text.encode("utf-8")), system.strip(), user.strip())
