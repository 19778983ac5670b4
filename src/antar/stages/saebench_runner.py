"""Runs one of SAEBench's evaluations on one dictionary, inside SAEBench's own environment.

    python saebench_runner.py JOB.json        python saebench_runner.py --versions | --datasets

It imports nothing of antar, whose pins and SAEBench's exclude each other; the two talk in JSON files. A job holds

    evaluation, settings   which one, and what is not SAEBench's default
    dictionary, release    its id, and the same as a file name
    sae, model, model_name the SAELens folder; the checkpoint's folder and what it is called (null where not needed)
    device, threads
    out, facts             SAEBench's own result, unchanged; the seconds that it took, or why it cannot be made

It works in the folder that it is started in, and leaves there what another job of the run can use: activations, and
what is done of a long evaluation. SAEBench loads models by their names on the hub. Here the model is read from a
folder and handed in, in the place of what would be fetched; nothing else of SAEBench is touched.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("sae-bench", "sae-probes", "sae-lens", "transformer-lens", "transformers", "torch", "numpy",
            "scikit-learn", "datasets")  # fmt: skip


class Refused(Exception):
    """The evaluation cannot be made on this dictionary; the message says why, for a person."""


def meta_structure(job: dict[str, Any], out: Path) -> None:
    """How well few directions explain the decoder's rows. Needs the weights alone, so no hook and no model."""
    main = import_module("sae_bench.evals.meta_structure.main")
    config = main.MetaStructureEvalConfig(**job["settings"])
    main._set_random_seed(config.random_seed)
    result = main.run_eval_single_sae(job["release"], job["dictionary"], _sae(job), config, job["device"])
    result.to_json_file(str(out), indent=2)


def sparse_probing_sae_probes(job: dict[str, Any], out: Path) -> None:
    """k-sparse probing on the data sets that sae-probes brings along."""
    main = import_module("sae_bench.evals.sparse_probing_sae_probes.main")
    config = main.SparseProbingSaeProbesEvalConfig(
        model_name=job["model_name"], results_path="results", model_cache_path="activations", **job["settings"]
    )
    unknown = set(config.dataset_names) - set(import_module("sae_probes").DATASETS)
    if unknown:
        raise Refused(f"sae-probes has no data set {', '.join(sorted(unknown))}")
    sae = _sae(job)
    _probe_activations(job, config, sae)
    _drop_broken_results(Path("results"))
    _run(main.run_eval, job, out, lambda folder: main.run_eval(
        config, [(job["release"], sae)], job["device"], str(folder)
    ))  # fmt: skip


def core(job: dict[str, Any], out: Path) -> None:
    """Loss recovered, variance explained and L0 on running text."""
    main = import_module("sae_bench.evals.core.main")
    sae = _sae(job)
    model = _model(job, sae)
    if sae.cfg.metadata.prepend_bos is None:  # as its own tokenizer does, which is how antar reads texts
        sae.cfg.metadata.prepend_bos = model.tokenizer("a")["input_ids"][0] == model.tokenizer.bos_token_id
    _hand_in(main, model)
    _run(main.multiple_evals, job, out, lambda folder: main.multiple_evals(
        selected_saes=[(job["release"], sae)], output_folder=str(folder), device=job["device"], dtype="float32",
        **job["settings"],
    ))  # fmt: skip


def sparse_probing(job: dict[str, Any], out: Path) -> None:
    """k-sparse probing on SAEBench's eight data sets, which it takes from the hub."""
    main = import_module("sae_bench.evals.sparse_probing.main")
    sae = _sae(job)
    _hand_in(main, _model(job, sae))
    config = main.SparseProbingEvalConfig(model_name=job["model_name"], llm_dtype="float32", **job["settings"])
    _run(main.run_eval, job, out, lambda folder: main.run_eval(
        config, [(job["release"], sae)], job["device"], str(folder), artifacts_path="artifacts"
    ))  # fmt: skip


EVALUATIONS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "meta_structure": meta_structure,
    "sparse_probing_sae_probes": sparse_probing_sae_probes,
    "core": core,
    "sparse_probing": sparse_probing,
}


def _run(of: Callable[..., Any], job: dict[str, Any], out: Path, call: Callable[[Path], Any]) -> None:
    """`call(folder)`, which writes one result file into `folder`; that file becomes `out`."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        call(Path(folder))
        written = sorted(Path(folder).glob("*.json"))
        if len(written) != 1:
            raise RuntimeError(f"{of.__module__}: expected one result file, found {len(written)}")
        written[0].replace(out)


def _sae(job: dict[str, Any]) -> Any:
    return import_module("sae_lens").SAE.load_from_disk(job["sae"], device=job["device"])


def _model(job: dict[str, Any], sae: Any) -> Any:
    """The checkpoint in TransformerLens, unprocessed; its residual stream is checked against transformers' own."""
    loading: Any = import_module("transformer_lens.loading_from_pretrained")
    known = loading.get_official_model_name
    # It converts any checkpoint of an architecture that it knows, but asks for a name from its list first.
    loading.get_official_model_name = lambda name: name if Path(name).is_dir() else known(name)
    transformers = import_module("transformers")
    with tempfile.TemporaryDirectory(prefix="m") as folder:
        # It guesses architectures from parts of names, and so of paths: this one says nothing.
        place = Path(folder) / "checkpoint"
        place.symlink_to(Path(job["model"]).resolve(), target_is_directory=True)
        own = transformers.AutoModelForCausalLM.from_pretrained(str(place), dtype="float32").eval()
        try:
            model = import_module("transformer_lens").HookedTransformer.from_pretrained_no_processing(
                str(place), hf_model=own, device=job["device"]
            )
        except (ValueError, KeyError, NotImplementedError) as error:
            told = " ".join(str(error).split())[:200]
            raise Refused(f"TransformerLens does not open the checkpoint: {told}") from error
    if model.cfg.d_model != sae.cfg.d_in:
        raise Refused(f"the checkpoint is {model.cfg.d_model} wide, the dictionary {sae.cfg.d_in}")
    _check_same(model, own, sae.cfg.metadata.hook_name)
    return model


def _check_same(model: Any, own: Any, hook: str) -> None:
    """Refuse a conversion that computes other activations than the ones that the dictionary was trained on."""
    torch, layer = import_module("torch"), int(hook.split(".")[1])
    if layer + 1 >= model.cfg.n_layers:
        return  # transformers gives the last block's output after the final norm only
    tokens = torch.arange(5, 25).remainder(model.cfg.d_vocab)[None]
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens.to(model.cfg.device), names_filter=[hook], stop_at_layer=layer + 1)
        theirs = own(tokens, output_hidden_states=True).hidden_states[layer + 1]
    off = float((cache[hook].cpu() - theirs).norm() / theirs.norm())
    if not off < 1e-3:
        raise Refused(f"TransformerLens's {hook} is {off:.2g} off what transformers computes, so it is another model")
    print(f"{hook}: {off:.1g} off transformers' own", flush=True)


class _Given:
    """Stands where an evaluation would fetch a model by its name."""

    def __init__(self, model: Any) -> None:
        self.from_pretrained_no_processing = lambda *_, **__: model


def _hand_in(module: Any, model: Any) -> None:
    module.HookedTransformer = _Given(model)


def _probe_activations(job: dict[str, Any], config: Any, sae: Any) -> None:
    """The model's activations on the data sets, those that are lacking, each file whole or absent."""
    make = import_module("sae_probes.generate_model_activations").ensure_dataset_activations
    hook, cache = sae.cfg.metadata.hook_name, Path(config.model_cache_path)
    folder = f"model_activations_{config.model_name}"
    lacking = [name for name in config.dataset_names if not (cache / folder / f"{name}_{hook}.pt").is_file()]
    if not lacking:
        return
    model = _model(job, sae)
    for at, name in enumerate(lacking):
        print(f"activations of {name} ({at + 1} of {len(lacking)})", flush=True)
        with tempfile.TemporaryDirectory(dir=".") as partial:
            make(config.model_name, [name], [hook], partial, device=job["device"], model=model)
            (cache / folder).mkdir(parents=True, exist_ok=True)
            (Path(partial) / folder / f"{name}_{hook}.pt").replace(cache / folder / f"{name}_{hook}.pt")


def _drop_broken_results(folder: Path) -> None:
    """sae-probes takes a file that is there for done; one that a kill cut off is not."""
    for path in folder.rglob("*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _write(path: Path, value: Any) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


def main(arguments: list[str]) -> None:
    if arguments == ["--versions"]:
        print(json.dumps(versions()))
        return
    if arguments == ["--datasets"]:
        print(json.dumps(sorted(import_module("sae_probes").DATASETS)))
        return
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    started, out, facts = time.monotonic(), Path(job["out"]), Path(job["facts"])
    if job["threads"]:
        import_module("torch").set_num_threads(job["threads"])
    try:
        EVALUATIONS[job["evaluation"]](job, out)
    except Refused as why:
        _write(facts, {"refused": str(why)})
    else:
        _write(facts, {"seconds": round(time.monotonic() - started, 1)})


if __name__ == "__main__":
    main(sys.argv[1:])
