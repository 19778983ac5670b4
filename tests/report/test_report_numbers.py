"""What the page says of numbers: formats, and the sentence on effective dimension."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from antar.report import text
from antar.report.figures import COLOURS, Plot, draw_plot, inline
from antar.report.geometry import claim
from antar.report.method import limits
from antar.report.page import style_sheet


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "not measured"),
        (float("nan"), "not measured"),
        (float("inf"), "not measured"),
        (0.0, "0"),
        (3, "3"),
        (12345, "12,345"),
        (0.123456, "0.123"),
        (4.0, "4.00"),
        (-0.5, "−0.500"),
        (1234.5, "1,234"),
        (2e-6, "2.00×10⁻⁶"),
        (True, "yes"),
        ("a\u202eb", "a⟨U+202E⟩b"),
    ],
)
def test_numbers_are_written_one_way(value, written):
    assert text.number(value) == written


def test_a_p_value_is_never_zero():
    assert text.small(0.0) == "< 0.001"
    assert text.small(0.0312) == "0.031"


def test_joiners_stay_and_overrides_show():
    assert text.shown("क्\u200dष") == "क्\u200dष"
    assert text.shown("\u061cx\u0007\ufeff") == "⟨U+061C⟩x⟨U+0007⟩⟨U+FEFF⟩"


def test_devanagari_is_cut_out_as_hindi_and_nothing_is_lost():
    mixed = "label: दीवाली, दीये / lamps"
    runs = text.runs_of_script(mixed)
    assert "".join(part for part, _ in runs) == mixed
    assert [part for part, lang in runs if lang == "hi"] == ["दीवाली, दीये"]


def test_figures_take_no_devanagari():
    assert text.plain_for_figures("दीवाली", "concept 1") == "concept 1"
    assert text.plain_for_figures("Diwali", "concept 1") == "Diwali"


def geometry(**ranks):
    return [{"layer": 3, "side": side.replace("_", ":"), "pca90_rank": rank} for side, rank in ranks.items()]


def test_the_claim_about_deltas_is_answered_by_the_numbers():
    assert "takes fewer directions" in claim(geometry(base=10, delta=4, delta_a=9))
    assert "fewer than every sham's delta at 1 of 1" in claim(geometry(base=10, delta=4, delta_a=9))
    assert "at 0 of 1 layers: a low dimension is what any" in claim(geometry(base=10, delta=4, delta_a=4))
    assert "does not take" in claim(geometry(base=10, delta=11))
    assert "no sham" in claim(geometry(base=10, delta=4))
    assert "cannot be tested" in claim(geometry(base=10, delta=None))


def test_inline_figures_keep_only_what_they_need():
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="3pt"
      onload="x()"><metadata>m</metadata><style>*{{}}</style><script>s()</script><defs><path id="p" d="M0 0"/></defs>
      <g clip-path="url(#c)"><use xlink:href="#p" style="fill: {COLOURS["real"]}; stroke-width: 2"/>
      <image xlink:href="https://evil.example/x.png"/><text style="font: 9px 'X'">a &lt;b&gt;</text></g></svg>"""
    made = str(inline(svg.encode(), "one", 'al"t'))
    for gone in ("onload", "metadata", "script", "style", "evil", "xlink", 'width="3pt"'):
        assert gone not in made
    for kept in (
        'id="one-p"',
        'href="#one-p"',
        "url(#one-c)",
        'class="f-real"',
        'stroke-width="2"',
        "a &lt;b&gt;",
        'font-size="9"',
        'aria-label="al&quot;t"',
    ):
        assert kept in made


def test_limits_follow_from_what_the_run_has(make_run, reported):
    with_sham = " ".join(limits(reported))
    assert "no sham" not in with_sham and "made for this study" in with_sham
    assert "There is no sham" in " ".join(limits(make_run(sham=False, truth=False)))


def test_crowded_figures_carry_their_points_as_an_image(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 2))

    def draw(axes):
        axes.plot(points[:, 0], points[:, 1], "o", color=COLOURS["real"], linestyle="none", rasterized=True)

    drawn = draw_plot(Plot("crowd", "a crowd of points", "many points", draw), tmp_path)
    assert 'href="data:image/png;base64,' in drawn.svg
    assert len(drawn.svg) < 200_000
    assert drawn.svg.count("<use") < 100


# -- colours -------------------------------------------------------------------------------------------------------

ROLES = ("real", "sham", "shuffled", "base", "chat")
BLIND = {  # Machado, Oliveira & Fernandes 2009, severity 1: linear RGB as seen
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a: str, b: str) -> float:
    light, dark = sorted((float(TO_XYZ[1] @ linear(one)) for one in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    """Role → colour: of the files, and of the page in light and dark."""
    light, dark = re.findall(r":root \{(.*?)\}", style_sheet(), re.S)[:2]
    pages = {
        name: dict(re.findall(r"--(\w+): (#\w{6})", block)) for name, block in (("light", light), ("dark", dark))
    }
    return {"files": COLOURS, **pages}


@pytest.mark.parametrize("scheme", ["files", "light", "dark"])
def test_colours_can_be_told_apart_by_everybody(scheme):
    colours = schemes()[scheme]
    for kind, seen in BLIND.items():
        places = {role: lab(seen @ linear(colours[role])) for role in ROLES}
        near = {(a, b): np.linalg.norm(places[a] - places[b]) for a, b in combinations(ROLES, 2)}
        assert min(near.values()) > 20, (kind, min(near, key=near.get), min(near.values()))
    assert all(contrast(colours[role], colours["paper"]) >= 3 for role in ROLES)


def test_the_page_has_the_colours_of_the_files():
    assert {role: schemes()["light"][role] for role in ROLES} == {role: COLOURS[role] for role in ROLES}
