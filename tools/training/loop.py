"""The training itself: stage by stage, step by step, saving as it goes."""

import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import ToolError
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.networks.cloformer.architecture import Architecture, parsed
from cloformer_deploy.networks.cloformer.heads import network
from cloformer_deploy.weights.checkpoints import Checkpoint
from tools.training.averaging import decay_at, update
from tools.training.evaluation import evaluate
from tools.training.loading import batches
from tools.training.objectives import OBJECTIVES, Objective
from tools.training.progress import say
from tools.training.recipe import BETAS, CLIP_NORM, WEIGHT_DECAY, Recipe, Size, Stage, sized
from tools.training.record import CURVE, LOG, Log, draw_curve
from tools.training.sources import Source, spread
from tools.training.state import Progress, Training, load_state, save_state

STATE = "state.pt"
VALIDATION_IMAGES = 500
_VALIDATE_EVERY_S = 180
_VALIDATION_SHARE = 0.03
_REPORT_EVERY_S = 10


@dataclass(frozen=True)
class Machine:
    """The settings that change only the speed: the device, processes that load images, seconds between saved states."""

    device: torch.device
    workers: int
    save_every_s: float


def architecture(recipe: Recipe, init: Checkpoint | None) -> Architecture:
    """The configuration that is trained: that of `init`, or the published one, with the head of the task."""
    known = VARIANTS[recipe.variant] if init is None else parsed(init.architecture)
    return known.of_head(OBJECTIVES[recipe.task].head, len(recipe.labels))


def prepare(recipe: Recipe, init: Checkpoint | None, device: torch.device) -> Training:
    """The training before its first step: fresh weights from the recipe's seed, and those of `init`.

    Of weights for another task only the body is taken.
    """
    torch.manual_seed(recipe.seed)
    model = network(architecture(recipe, init))
    if init is not None:
        taken = {name: init.state_dict[name] for name in model.state_dict().keys() & init.state_dict.keys()}
        model.load_state_dict(taken, strict=False)
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # left out of torch's annotations
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.peak_lr, betas=BETAS)
    average = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    return Training(model.train(), average, optimizer)


class Trainer:
    """Runs a recipe in a folder, from the beginning or from the folder's saved state."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        validation: Source,
        init: Checkpoint | None,
        folder: Path,
        machine: Machine,
    ) -> None:
        """Prepare, and take up the folder's state if there is one.

        Raises:
            RequestError: the state is damaged or of another training.
        """
        self.recipe, self.source, self.validation = recipe, source, validation
        self.folder, self.machine = folder, machine
        self.training = prepare(recipe, init, machine.device)
        self.objective: Objective = OBJECTIVES[recipe.task].fitted(source)
        self.progress = Progress()
        if (folder / STATE).exists():
            self.progress = load_state(folder / STATE, recipe.fingerprint(), self.training)
            say(f"going on from step {self.progress.step} of {recipe.steps}")
        self.log = Log(folder / LOG, self.progress.step)
        self._started = time.monotonic() - self.progress.seconds
        self._saved = self._judged = time.monotonic()
        self._judging_s = 0.0

    @property
    def seconds(self) -> float:
        """Spent on this training so far, without the time between a kill and going on."""
        return time.monotonic() - self._started

    def run(self) -> None:
        """Train to the end of the schedule.

        Raises:
            ToolError: the loss is no longer a number.
        """
        start = 0
        for stage, end in zip(self.recipe.schedule, self.recipe.stage_ends, strict=True):
            if self.progress.step < end:
                self._run_stage(stage, max(start, self.progress.step), end)
                self._save()  # first: judging takes a while, in which a kill must not lose what was trained
                self._judge(stage.size)
                draw_curve(self.folder / CURVE, self.log.lines(), self.recipe)
            start = end

    def _run_stage(self, stage: Stage, start: int, end: int) -> None:
        machine = self.machine
        pin = machine.device.type == "cuda"
        loader = batches(self.source, self.recipe, self.objective, stage.size, start, end, machine.workers, pin)
        preprocessing = Preprocessing.published(*stage.size)
        mean = torch.tensor(preprocessing.mean, device=machine.device).reshape(3, 1, 1) * 255
        std = torch.tensor(preprocessing.std, device=machine.device).reshape(3, 1, 1) * 255
        report = Report(self, stage)
        for step, (pixels, targets) in enumerate(loader, start):
            images = (pixels.to(machine.device, non_blocking=True) - mean) / std
            images = images.contiguous(memory_format=torch.channels_last)
            wanted = targets.to(machine.device)
            loss = float(train_step(self.training, self.objective, images, wanted, step, self.recipe))
            if not math.isfinite(loss):
                raise ToolError(f"the loss is {loss} at step {step}", "take another --output and a lower --lr")
            self.progress = Progress(step + 1, self.seconds)
            report.add(loss)
            judge = step + 1 < end and self._judging_is_due()
            if judge or time.monotonic() - self._saved >= machine.save_every_s:
                self._save()
            if judge:
                self._judge(stage.size)
        report.flush()

    def _judging_is_due(self) -> bool:
        pause = max(_VALIDATE_EVERY_S, self._judging_s / _VALIDATION_SHARE)
        return time.monotonic() - self._judged >= pause

    def _judge(self, size: Size) -> None:
        began = time.monotonic()
        indices = spread(self.validation, VALIDATION_IMAGES)
        found = evaluate(self.training.average, self.objective, self.validation, indices, size, final=False)
        self.log.add(step=self.progress.step, seconds=round(self.seconds, 1), **asdict(found))
        say(f"{found.size} px: {self.objective.title} {found.score:.1%} of {found.n}")
        self._judged = time.monotonic()
        self._judging_s = self._judged - began

    def _save(self) -> None:
        save_state(self.folder / STATE, self.recipe.fingerprint(), self.progress, self.training)
        self._saved = time.monotonic()


def train_step(
    training: Training, objective: Objective, images: Tensor, targets: Tensor, step: int, recipe: Recipe
) -> Tensor:
    """One step on a batch: normalized images (B, 3, H, W) and their targets. Returns the loss, a scalar."""
    for group in training.optimizer.param_groups:
        group["lr"] = recipe.learning_rate(step)
    loss = objective.loss(training.model(images), targets, (images.shape[2], images.shape[3]))
    training.optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(training.model.parameters(), CLIP_NORM)
    training.optimizer.step()
    update(training.average, training.model, decay_at(step, recipe.ema))
    return loss.detach()


class Report:
    """Gathers losses, and every ten seconds tells and logs their mean and the speed."""

    def __init__(self, trainer: Trainer, stage: Stage) -> None:
        self._trainer, self._stage = trainer, stage
        self._restart()

    def add(self, loss: float) -> None:
        """Take a step's loss."""
        self._losses.append(loss)
        if time.monotonic() - self._since >= _REPORT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Tell and log what was gathered since the last time."""
        if not self._losses:
            return
        trainer, recipe = self._trainer, self._trainer.recipe
        step = trainer.progress.step
        loss = fmean(self._losses)
        speed = len(self._losses) * recipe.batch / (time.monotonic() - self._since)
        trainer.log.add(
            step=step,
            epoch=round(step / recipe.steps_per_epoch, 3),
            size=sized(self._stage.size),
            lr=recipe.learning_rate(step - 1),
            loss=round(loss, 4),
            images_per_s=round(speed, 1),
            seconds=round(trainer.seconds, 1),
        )
        say(
            f"{sized(self._stage.size)} px  epoch {step / recipe.steps_per_epoch:.2f}  step {step}/{recipe.steps}  "
            f"loss {loss:.3f}  {speed:.1f} images/s"
        )
        self._restart()

    def _restart(self) -> None:
        self._losses: list[float] = []
        self._since = time.monotonic()
