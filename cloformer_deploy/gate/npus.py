"""Check which share of an artifact its NPUs run, as their compilers say now."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.gate.config import Limits
from cloformer_deploy.npu import Npu, asked_by_export
from cloformer_deploy.validation.checks import Check, Outcome

Remembered = Callable[[Sequence[str], Callable[[], bytes]], bytes]


def npu_checks(
    artifact: Artifact, path: Path, limits: Limits, npu: Npu | None, remembered: Remembered
) -> Iterator[Check]:
    """Yield one check for each NPU, if the limits require a share.

    Args:
        artifact: its manifest entry.
        path: of the file.
        limits: of the artifact.
        npu: the NPU to ask; None asks those that an export asks.
        remembered: returns a kept result, or computes it.

    Raises:
        ToolError: a compiler failed.
    """
    if limits.npu_share is None:
        return
    npus = asked_by_export(artifact.key) if npu is None else (npu,)
    if not npus:
        yield Check("npu_share", "failed", f"no NPU runs {artifact.precision} files for {artifact.target}")
    for each in npus:
        yield _check(each, artifact, path, limits.npu_share, limits.not_executed, remembered)


def _check(npu: Npu, artifact: Artifact, path: Path, least: float, not_executed: str, remembered: Remembered) -> Check:
    lack = npu.missing()
    if lack is not None:
        without: Outcome = "undecided" if not_executed == "allow" else "failed"
        return Check("npu_share", without, f"{npu.title} was not asked: {lack.message}; {lack.hint}", limit=least)
    share = float(remembered(("npu_share", npu.name, npu.compiler, artifact.sha256), lambda: _share(npu, path)))
    outcome: Outcome = "passed" if share >= least else "failed"
    text = f"{npu.title} runs {share:.1%} of its operators, or of their multiply-accumulates"
    return Check("npu_share", outcome, text, share, least)


def _share(npu: Npu, path: Path) -> bytes:
    return repr(npu.compile(path).npu_share).encode()
