"""The result of `tune` on a terminal and in JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table

if TYPE_CHECKING:
    from cloformer_deploy.tune import Tuned


def tune_json(path: Path, found: "Tuned") -> Mapping[str, Any]:
    """Return the recipe, the alternatives that it has, every trial, and the accuracy of its file."""
    verdict = found.verdict
    return {
        "schema_version": 1,
        "output": str(path),
        "recipe": found.recipe.model_dump(mode="json"),
        "kept": list(found.kept),
        "trials": [
            {
                "alternative": name,
                "speedup": trial.speedup,
                "speedup_ci95": trial.speedup_ci95,
                "rounds": trial.rounds,
                "failure": trial.failure,
            }
            for name, trial in found.trials.items()
        ],
        "images": found.images,
        "agreement": None if verdict.found is None else verdict.found.agreement,
        "drop_pp": None if verdict.found is None else verdict.found.drop_pp,
    }


def tune_tables(path: Path, found: "Tuned") -> Rendered:
    """Yield a row for each alternative, the fastest first, then what was kept and how fast its file is."""
    table = new_table("alternative", "speedup", "95 %", "", numeric=(1,))
    for name, trial in sorted(found.trials.items(), key=lambda item: -(item[1].speedup or 0)):
        interval = trial.speedup_ci95
        ends = "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        last = "kept" if name in found.kept else trial.failure or ""
        add_row(table, name, "-" if trial.speedup is None else f"{trial.speedup:.3f}", ends, last)
    yield table
    yield f"Kept: {', '.join(found.kept) or 'nothing; no alternative is faster'}."
    measured = found.recipe.measured
    if measured is not None:
        low, high = measured.speedup_ci95
        yield (
            f"Speedup over the target's own choices: {measured.speedup:.3f} ({low:.3f}, {high:.3f}) on "
            f"{measured.device}, {measured.runtime}, threads: {measured.threads}."
        )
    compared = found.verdict.found
    if compared is not None:
        drop = "" if compared.drop_pp is None else f", drop {compared.drop_pp:.2f} pp"
        yield f"Agreement with PyTorch {compared.agreement:.1%}{drop} on {compared.n} images ({found.images})."
    kind = found.recipe
    made = f"--format {kind.format} --precision {kind.precision}"
    yield f"Next: cloformer-deploy export {made} --recipe {path!s}"
