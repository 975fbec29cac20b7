"""The process that runs onnxsim: `python -m cloformer_deploy.backends.onnx.simplify BEFORE AFTER`."""

import sys

from cloformer_deploy.system.packages import hidden
from cloformer_deploy.system.subprocesses import end_with_parent


def main(before: str, after: str) -> None:
    """Write the simplified ONNX file `before` to `after`."""
    end_with_parent()
    import onnx

    with hidden("torch"):  # for parts of onnxsim that are not used here
        import onnxsim

    # The means that a lowering takes in two steps stay two.
    simplified, sound = onnxsim.simplify(onnx.load(before), skipped_optimizers=["fuse_consecutive_reduce"])
    if not sound:
        sys.exit("onnxsim's own check failed")
    onnx.save(simplified, after)


if __name__ == "__main__":
    main(*sys.argv[1:])
