"""Train a CloFormer, and write the form that ships in `models/`: safetensors, float32, labels in the metadata.

python tools/train_reference.py --variant xxs --data rendered --val rendered --schedule 64:15,96:9,128:9,224:1 \
    --output RUN_DIR
python tools/train_reference.py --variant xxs --data scenes --val scenes --init models/xxs-rendered.safetensors \
    --schedule 128:4,224:2 --batch 16 --output RUN_DIR

The data tell the task: a folder of sub-folders is classification, `images/` beside `masks/` is segmentation, COCO
annotations are detection.
Killed at any moment, the same command goes on where it was at most half a minute before.
"""

import argparse
import dataclasses
import importlib.util
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch

from cloformer_deploy.data.coco import category_names, is_coco
from cloformer_deploy.data.masks import FORM, has_masks
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.data.rendered.scenes import SCENE_CLASSES
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, RequestError
from cloformer_deploy.exporting.labels import read_labels
from cloformer_deploy.networks.cloformer import CUSTOM, VARIANTS, Architecture
from cloformer_deploy.networks.cloformer.heads import BODY
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.weights.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tools.training.evaluation import evaluate
from tools.training.loop import Machine, Trainer
from tools.training.progress import say
from tools.training.recipe import Recipe, parse_schedule
from tools.training.record import CURVE, RECIPE, draw_curve, images_per_second, write_text
from tools.training.rendered import BOXES, IMAGES, SCENES, RenderedSource
from tools.training.sources import BoxSource, FolderSource, MaskSource, Source

WEIGHTS = "weights.safetensors"
RENDERED = {"rendered": IMAGES, "scenes": SCENES, "scene-boxes": BOXES}
"""Names that stand for rendered data where a folder is expected."""
TASK_OF_RENDERED = {"rendered": "classification", "scenes": "segmentation", "scene-boxes": "detection"}
RENDERED_VALIDATION_IMAGES = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print the sha256 of the weights."""
    arguments = arguments_parser().parse_args(argv)
    try:
        trainer = prepare(arguments)
        trainer.run()
        digest = finish(trainer, ["tools/train_reference.py", *(sys.argv[1:] if argv is None else argv)])
    except CloformerDeployError as error:
        print(f"{error.message}. {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted. The same command goes on from the saved state", file=sys.stderr)
        return 130
    print(f"{digest}  {arguments.output / WEIGHTS}")
    return 0


def arguments_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    folders = f"a folder with one sub-folder of images a class, or with {FORM}; or COCO annotations"
    images = f"{folders}; or {' or '.join(RENDERED)}"
    add("--variant", choices=[*VARIANTS, CUSTOM], required=True, help=f"{CUSTOM}: that of the weights of --init")
    add("--data", required=True, help=f"images to train on: {images}")
    add("--val", required=True, help="images to choose by, given likewise; not those of the final test")
    add("--schedule", required=True, metavar="PX:EPOCHS,...", help="stages, for example 64:15,96:9,128:9,224:1.5")
    add("--output", type=Path, required=True, metavar="RUN_DIR", help="the folder for the weights and their record")
    add(
        "--labels",
        type=Path,
        help="a text file with one class name a line, in the order of the sorted sub-folders or of the masks' values",
    )
    add("--init", type=Path, metavar="WEIGHTS", help="weights to start from; of another task's the body alone")
    add("--count", type=positive, default=20_000, help="rendered images or scenes to train on (default 20000)")
    add("--batch", type=positive, default=64, help="images a step (default 64)")
    add("--lr", type=float, default=1.5e-3, help="peak learning rate (default 1.5e-3)")
    add("--crop-area", type=float, default=0.3, help="lowest share of an image in a random crop (default 0.3)")
    add("--augmentation", type=float, default=1.0, help="strength of jitter and cutout, 0 to 2 (default 1)")
    add("--sharpen", type=float, metavar="PERCENT", help="unsharp mask on crops scaled up to the double (default none)")
    add("--ema", type=float, default=0.998, help="decay of the weights' moving average (default 0.998)")
    add("--seed", type=int, default=0, help="of weights, order and augmentation (default 0)")
    add("--cache", type=Path, help="where rendered images are kept (default RUN_DIR/images)")
    add("--threads", type=positive, help="torch's threads (default: its own choice)")
    add("--workers", type=positive, help="processes that load images (default: half the cores, at most 8)")
    add("--save-every", type=float, default=30, metavar="SECONDS", help="between two saved states (default 30)")
    return parser


def positive(text: str) -> int:
    """A whole number above 0 (argparse tells the user of the ValueError)."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def prepare(arguments: argparse.Namespace) -> Trainer:
    """Read the images and the weights that the arguments name, and take up a saved state if there is one.

    Raises:
        CloformerDeployError: the arguments cannot be followed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPartError("matplotlib, which draws the curve, is missing", "pip install matplotlib")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    schedule = parse_schedule(arguments.schedule)
    arguments.output.mkdir(parents=True, exist_ok=True)
    task, source, labels = open_training(arguments)
    validation = open_validation(arguments, task, labels)
    init = None
    if arguments.init is not None:
        init = matching(load_checkpoint(arguments.init, arguments.variant), task, labels)
    recipe = Recipe(
        task=task,
        variant=arguments.variant,
        labels=labels,
        data=source.identity,
        num_images=len(source),
        init=None if init is None else init.sha256,
        schedule=schedule,
        seed=arguments.seed,
        batch=arguments.batch,
        peak_lr=arguments.lr,
        crop_area=arguments.crop_area,
        augmentation=arguments.augmentation,
        ema=arguments.ema,
        sharpen=arguments.sharpen,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workers = arguments.workers or min(8, max(1, usable_cores() // 2))
    machine = Machine(device, workers, arguments.save_every)
    return Trainer(recipe, source, validation, init, arguments.output, machine)


def open_training(arguments: argparse.Namespace) -> tuple[str, Source, tuple[str, ...]]:
    """The task, the training images, and the classes' names."""
    if arguments.data in RENDERED:
        if arguments.labels is not None:
            raise RequestError("the classes of rendered images have names already", "leave --labels out")
        rendered = RenderedSource("train", arguments.count, cache(arguments), RENDERED[arguments.data])
        task = TASK_OF_RENDERED[arguments.data]
        return task, rendered, SCENE_CLASSES if task == "segmentation" else CLASSES
    root = Path(arguments.data)
    if is_coco(root):
        names = category_names(root) if arguments.labels is None else read_labels(arguments.labels, None)
        return "detection", BoxSource(root, names), names
    if has_masks(root):
        if arguments.labels is None:
            raise RequestError("masks do not say the names of their classes", "give --labels FILE")
        labels = read_labels(arguments.labels, None)
        return "segmentation", MaskSource(root, len(labels)), labels
    source = FolderSource(root)
    if arguments.labels is None:
        return "classification", source, source.classes
    return "classification", source, read_labels(arguments.labels, len(source.classes))


def open_validation(arguments: argparse.Namespace, task: str, labels: tuple[str, ...]) -> Source:
    """The images to choose by, whose classes are those of the training."""
    if arguments.val not in RENDERED:
        root = Path(arguments.val)
        source: MaskSource | BoxSource | FolderSource
        if task == "segmentation":
            source = MaskSource(root, len(labels))
        else:
            source = BoxSource(root, labels) if task == "detection" else FolderSource(root, labels)
        for warning in source.warnings:
            say(f"warning: {warning}")
        return source
    drawing = RENDERED[arguments.val]
    if TASK_OF_RENDERED[arguments.val] != task or labels != (SCENE_CLASSES if task == "segmentation" else CLASSES):
        raise RequestError(
            f"--val {arguments.val} has other classes than the training images", "give --val images of the same kind"
        )
    return RenderedSource("validation", RENDERED_VALIDATION_IMAGES, cache(arguments), drawing)


def cache(arguments: argparse.Namespace) -> Path:
    """The folder for rendered images."""
    folder: Path = arguments.cache or arguments.output / "images"
    return folder


def matching(init: Checkpoint, task: str, labels: tuple[str, ...]) -> Checkpoint:
    """The weights to start from, if they are of another task, or have the data's classes."""
    if init.task != task:
        body = {name: tensor for name, tensor in init.state_dict.items() if name.startswith(BODY)}
        return dataclasses.replace(init, state_dict=body)
    if init.num_classes != len(labels) or init.labels not in (None, labels):
        raise RequestError(
            f"the weights to start from are for {init.num_classes} other classes than the {len(labels)} of the data",
            "give weights for the same classes (and their names with --labels), or leave --init out",
        )
    return init


def finish(trainer: Trainer, command: Sequence[str]) -> str:
    """Judge the averaged weights on all validation images, and write them with their record.

    Args:
        trainer: at the end of its schedule.
        command: of which the weights come.

    Returns:
        The sha256 of the weights file.
    """
    folder, recipe, validation = trainer.folder, trainer.recipe, trainer.validation
    average, size = trainer.training.average, recipe.schedule[-1].size
    found = evaluate(average, trainer.objective, validation, range(len(validation)), size, final=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in average.state_dict().items()}
    checkpoint = Checkpoint(
        recipe.variant,
        "",
        recipe.variant,
        len(recipe.labels),
        recipe.labels,
        task=recipe.task,
        architecture=cast(Architecture, average.architecture).as_json(),
        state_dict=weights,
    )
    digest = save_checkpoint(checkpoint, folder / WEIGHTS)
    lines = trainer.log.lines()
    draw_curve(folder / CURVE, lines, recipe)
    record = {
        "command": shlex.join(["python", *command]),
        "recipe": recipe.fingerprint(),
        "weights_sha256": digest,
        "validation": {"data": validation.identity, **dataclasses.asdict(found)},
        "steps": recipe.steps,
        "seconds": round(trainer.progress.seconds, 1),
        "images_per_s": images_per_second(lines),
        "device": trainer.machine.device.type,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("cloformer-deploy", "torch", "numpy", "pillow")},
    }
    write_text(folder / RECIPE, json.dumps(record, indent=2) + "\n")
    say(f"{trainer.objective.title} {found.score:.1%} of {found.n} at {found.size} px")
    return digest


if __name__ == "__main__":
    sys.exit(main())
