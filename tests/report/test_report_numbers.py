"""What the page says of numbers: formats, and the sentence on effective dimension."""

from __future__ import annotations

import numpy as np
import pytest

from antar.report import text
from antar.report.figures import COLOURS, Plot, draw_plot, inline
from antar.report.geometry import claim
from antar.report.method import limits


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "not measured"), (float("nan"), "not measured"), (float("inf"), "not measured"), (0.0, "0"), (3, "3"),
     (12345, "12,345"), (0.123456, "0.123"), (4.0, "4.00"), (-0.5, "−0.500"), (1234.5, "1,234"), (2e-6, "2.00×10⁻⁶"),
     (True, "yes"), ("a\u202eb", "a⟨U+202E⟩b")],
)  # fmt: skip
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
    for kept in ('id="one-p"', 'href="#one-p"', "url(#one-c)", 'class="f-real"', 'stroke-width="2"', "a &lt;b&gt;",
                 'font-size="9"', 'aria-label="al&quot;t"'):  # fmt: skip
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
