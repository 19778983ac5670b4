"""Against Neuronpedia's library and SAEDashboard themselves, in an environment of their own (`make test-interop`).

Their own classes read what antar wrote: SAEDashboard's batch, which it writes again as it was; and Neuronpedia's
activations and explanations, which its library would upload.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from antar.run import load_run
from antar.share.export import Options, export_run
from fake_run import HINDI, write_fake_run

pytestmark = pytest.mark.interop
pytest.importorskip("neuronpedia", reason="in the environment of Neuronpedia only")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("neuronpedia")
    export_run(
        write_fake_run(folder / "run"), folder / "out", "neuronpedia", Options(dictionary="base.layer01", top=6)
    )
    return folder / "out"


def lines(out: Path, table: str) -> list[dict[str, Any]]:
    paths = sorted(out.glob(f"exports/*/*/{table}/batch-*.jsonl.gz"))
    assert paths
    return [json.loads(line) for path in paths for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_saedashboard_reads_a_batch_and_writes_it_again_as_it_was(out: Path) -> None:
    from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch

    (path,) = (out / "dashboards").rglob("batch-0.json")
    written = json.loads(path.read_bytes())
    batch = NeuronpediaDashboardBatch(**written)
    assert len(batch.features) == 24
    first = batch.features[0]
    assert first.activations and first.activations[0].values and first.decoder_weights_dist == []
    assert batch.to_dict() == written
    assert any(HINDI[:40] in "".join(one.tokens) for feature in batch.features for one in feature.activations)


def test_neuronpedia_reads_activations_and_explanations(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuronpedia.np_activation import Activation
    from neuronpedia.np_explanation import Explanation
    from neuronpedia.np_feature import Feature
    from neuronpedia.requests.feature_request import FeatureRequest

    # The library calls `source` what the table calls `layer`.
    acts = [Activation.from_np_db_json({**row, "source": row["layer"], "binContains": None})
            for row in lines(out, "activations")]  # fmt: skip
    labels = [Explanation.from_np_db_json({**row, "source": row["layer"]}) for row in lines(out, "explanations")]
    assert acts and labels and all(len(one.tokens) == len(one.values) for one in acts)
    rows = lines(out, "features")
    features = [
        Feature(
            row["modelId"], row["layer"], int(row["index"]), row["frac_nonzero"],
            explanations=[one for one in labels if one.index == int(row["index"])],
            activations=[one for one in acts if one.index == int(row["index"])],
        )
        for row in rows
    ]  # fmt: skip
    sent: dict[str, Any] = {}
    monkeypatch.setattr(FeatureRequest, "send_request", lambda self, **asked: sent.update(asked["json"]))
    FeatureRequest(api_key="none").upload_batch(rows[0]["modelId"], rows[0]["layer"], features)
    run = load_run(out.parent / "run")
    assert [one["index"] for one in sent["features"]] == list(range(24))
    assert [one["density"] for one in sent["features"]] == pytest.approx(
        run.features.filter(dictionary="base.layer01")["firing_rate"].to_list(), rel=1e-5
    )
    json.dumps(sent)


def test_every_column_is_one_of_neuronpedias_tables(out: Path) -> None:
    """As its schema has them (apps/webapp/prisma/schema.prisma of its repository); it leaves others out unseen."""
    neuron = {"modelId", "layer", "index", "sourceSetName", "creatorId", "maxActApprox", "hasVector", "vector",
              "vectorLabel", "vectorDefaultSteerStrength", "hookName", "neuron_alignment_indices",
              "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
              "correlated_neurons_pearson", "correlated_neurons_l1", "correlated_features_indices",
              "correlated_features_pearson", "correlated_features_l1", "neg_str", "neg_values", "pos_str",
              "pos_values", "frac_nonzero", "freq_hist_data_bar_heights", "freq_hist_data_bar_values",
              "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist"}  # fmt: skip
    explanation = {"id", "modelId", "layer", "index", "description", "authorId", "notes", "typeName",
                   "explanationModelName"}  # fmt: skip
    assert set(lines(out, "features")[0]) == neuron
    assert set(lines(out, "explanations")[0]) == explanation
    needed = {
        "id",
        "tokens",
        "index",
        "layer",
        "modelId",
        "maxValue",
        "maxValueTokenIndex",
        "minValue",
        "values",
        "creatorId",
    }
    assert needed <= set(lines(out, "activations")[0])
