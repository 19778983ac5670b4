"""Writing a run for other tools, activations as npz and dictionaries as SAELens folders; reading what they wrote."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.core.manifest import MANIFEST_NAME, damaged_files, read_manifest
from antar.core.origin import FOLDER_KEY, Origin
from antar.core.progress import say
from antar.core.sites import UNTRAINED, DictionaryId
from antar.dictionaries import BatchTopK, Crosscoder, TopK
from antar.dictionaries.saelens import as_dictionary, read_saelens, write_saelens
from antar.models import export_npz
from antar.run import Run, load_run

FORMATS = ("npz", "saelens")


def export_run(run_folder: Path, out: Path, to: str, dictionary: str | None = None, inside: bool = False) -> int:
    """Write the run in `run_folder` under `out` in the format `to`. Returns how many files were written.

    npz: every activation set. saelens: a folder for each dictionary, or for the one that `dictionary` names.
    inside: `out` is a work folder of the run itself, where imported dictionaries are of what they are read on here
    """
    if to not in FORMATS:
        raise UserError(f"--to: expected {' or '.join(FORMATS)}, found {to!r}")
    run = load_run(run_folder)
    if to == "npz" and dictionary is not None:
        raise UserError("--dictionary: expected with --to saelens only; npz writes activations, not dictionaries")
    if not inside:
        refuse_inside(run, out, "--out")
    ids = _finished(run, dictionary, out) if to == "saelens" else []
    with _writing_below(out, "--out"):
        if to == "saelens":
            return _export_dictionaries(run, out, ids, dictionary is not None, as_read=inside)
        return len(export_npz(run.folder, run.texts, sorted(run.study["extract"]["layers"]), out))


@contextmanager
def _writing_below(folder: Path, option: str) -> Generator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written, found: {error.strerror or error}; name another with "
            f"{option}"
        ) from error


def _finished(run: Run, dictionary: str | None, out: Path) -> list[DictionaryId]:
    """The dictionaries to export, each with a place that is free."""
    ids = finished_dictionaries(run, None if dictionary is None else [DictionaryId.parse(dictionary)])
    for one in ids:
        refuse_taken(out / one.folder, "--out")
    return ids


def refuse_inside(run: Run, out: Path, option: str) -> None:
    """Raises UserError where `out` lies in the run itself."""
    if out.resolve().is_relative_to(run.folder.resolve()):
        raise UserError(f"{option}: expected a folder outside the run, found {out} in {run.folder}; name another")


def refuse_taken(place: Path, option: str) -> None:
    """Raises UserError where something is at `place` already, but for an empty folder."""
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(
            f"{place}: expected a new or empty folder, found something in its place; name another with {option}"
        )


def finished_dictionaries(run: Run, ids: Sequence[DictionaryId] | None = None) -> list[DictionaryId]:
    """The dictionaries of the run, or these, each whole, as it was written and of the study as it is now; else a
    UserError."""
    if ids is None and not run.dictionary_ids:
        raise UserError(f"{run.folder}: expected dictionaries, found none made yet; `antar train STUDY` makes them")
    wanted = list(run.dictionary_ids if ids is None else ids)
    for one in wanted:
        place = run.folder / "dictionaries" / one.folder
        manifest = read_manifest(place / MANIFEST_NAME)
        if manifest is None:
            raise UserError(f"{place}: not made yet, or not finished; `antar train STUDY` makes it")
        if problems := damaged_files(place / MANIFEST_NAME, manifest):
            name, what = next(iter(problems.items()))
            raise UserError(f"{place / name}: {what} since it was written; `antar train STUDY` makes it again")
        made, now = manifest.fingerprint.config, run.study["dictionaries"]
        if changed := sorted(key for key in made.keys() & now.keys() if made[key] != now[key]):
            raise UserError(
                f"{place}: expected a dictionary of the study as it is now, found one made before "
                f"{', '.join(changed)} changed; `antar train STUDY` makes it again"
            )
    return wanted


def _export_dictionaries(run: Run, out: Path, ids: Sequence[DictionaryId], asked: bool, as_read: bool = False) -> int:
    """Write `ids`; `asked`: they were asked for by name; `as_read`: as `saelens_metadata` says."""
    written: list[Path] = []
    left_out: list[str] = []
    for one in ids:
        files = write_as_saelens(run, one, out / one.folder, as_read)
        if not files and asked:
            kind = run.dictionary(one).kind
            raise UserError(f"--dictionary: expected one that SAELens has a format for, found a {kind}: {one}")
        written += files
        left_out += [] if files else [str(one)]
    if left_out:
        say(f"  left out, SAELens has no format for a crosscoder: {', '.join(left_out)}")
    return len(written)


def write_as_saelens(run: Run, one: DictionaryId, folder: Path, as_read: bool = False) -> list[Path]:
    """Write a dictionary as SAELens reads it; the files. Empty for a crosscoder, which takes two checkpoints'
    activations side by side: SAELens has no format for that. as_read: as `saelens_metadata` says."""
    found = run.dictionary(one)
    if not isinstance(found, TopK) or isinstance(found, Crosscoder):
        return []
    threshold_n = found.threshold_n if isinstance(found, BatchTopK) else None
    return write_saelens(folder, found.weights, found.k, threshold_n, saelens_metadata(run, one, as_read))


def saelens_metadata(run: Run, one: DictionaryId, as_read: bool = False) -> dict[str, Any]:
    """What SAELens should know about the activations that a dictionary takes.

    `model_name` and `hook_name` tell SAELens where to attach a dictionary. One that was trained on a difference of
    two checkpoints, or on both, belongs to no single model: there they are null, and `antar` says what it takes. Of
    an imported one they are its source's, and `antar` says that it was imported; as_read: the study's, on which it
    is read, all the same.
    """
    origin = run.origin(one) if one.is_imported and not as_read else None
    if origin is not None:
        return _imported_metadata(run, one, origin)
    models = run.study["models"]
    sides = one.site.difference or ((one.trained_on,) if one.trained_on != "joint" else ("base", "chat"))
    checkpoints = {side: _checkpoint(models, side) for side in sides}
    single = len(sides) == 1
    return {
        "model_name": checkpoints[sides[0]]["path"] if single else None,
        "hook_name": f"blocks.{one.layer}.hook_resid_post" if single else None,
        "hf_hook_name": f"model.layers.{one.layer}" if single else None,
        "context_size": run.study["extract"]["max_tokens"],
        "antar": {
            "study": run.study["study"],
            "dictionary": str(one),
            "side": one.trained_on,
            "layer": one.layer,
            "pooling": run.study["extract"]["pooling"],
            "input": _INPUTS.get(run.study["extract"]["pooling"], _INPUTS["mean"]),
            "difference": " minus ".join(one.site.difference) if one.site.difference else None,
            "normalisation": "folded into the weights",
            "decoder_rows": "unit length",
            "hook_name_is_null_because": None if single else _no_hook(one),
            "checkpoints": checkpoints,
        },
    }


_OF_THE_FILE = ("sae_lens_version", "training_architecture_details")
"""What a SAELens's metadata say of its file: another file says its own."""


def _imported_metadata(run: Run, one: DictionaryId, origin: Origin) -> dict[str, Any]:
    """The source's words, and where it was read here; nothing of the study's models and recipe as its own."""
    kept = {name: value for name, value in origin.metadata.items() if name not in _OF_THE_FILE}
    return {
        **kept,
        "model_name": origin.model,
        "hook_name": origin.hook,
        "antar": {
            **origin.antar,
            "imported": origin.line,
            "imported_by_study": run.study["study"],
            "imported_as": str(one),
            "decoder_rows": "unit length",
            "normalisation": "folded into the weights",
        },
    }


_INPUTS = {
    "mean": "a text's vector: the mean over its content tokens of the output of the block; raw scale",
    "last": "a text's vector: the output of the block at its last content token; raw scale",
    "max": "a text's vector: the largest output of the block in each dimension over its content tokens; raw scale",
    "none": "single content tokens: the output of the block; raw scale",
}


def _no_hook(one: DictionaryId) -> str:
    if one.site.difference:
        return "a difference of two checkpoints is computed by no single model"
    return "it was trained on both checkpoints' activations and belongs to neither"


def _checkpoint(models: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Name and revision of a side's checkpoint, as the study file has them."""
    if side == UNTRAINED:
        return _checkpoint(models, "base") | {"random_weights": models["random_weights"]["seed"]}
    if models.get("organism"):
        return {"path": f"antar-organism-{models['organism']['kind']}/{side.replace(':', '-')}", "revision": None}
    name = side.removeprefix("sham:")
    model = models["shams"][name] if side.startswith("sham:") else models[side]
    if "make" in model:
        return {"path": f"antar-sham/{name}", "revision": None}
    return {"path": model["path"], "revision": model.get("revision")}


def import_dictionary(source: Path, to: Path, k: int | None = None) -> Path:
    """Read the SAELens folder `source` and write it as a dictionary of antar's; returns its folder.

    to: a folder that is not there yet or empty, or a run, which then keeps it under `imported/`, apart from its own
    k: how many latents fire on a text on average, for a dictionary with thresholds; needed where it does not tell
    """
    out = to / "imported" / source.resolve().name if (to / "study.yaml").is_file() else to
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out}: expected a new or empty folder, found something in its place; name another with --to"
        )
    found = read_saelens(source)
    dictionary = as_dictionary(source, found, k)
    with _writing_below(out, "--to"):
        dictionary.save(out, {FOLDER_KEY: source.resolve().name, **found.about})
    return out
