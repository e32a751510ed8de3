"""What is the same for every kind of training: its settings, where its network comes from, what it must say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from swath.flows.train.data import Labelled
from swath.flows.train.fit import Figures
from swath.flows.train.pictures import normalisation
from swath.flows.train.split import Split
from swath.operators.models.info import ModelInfo
from swath.operators.models.info import Task as ModelTask
from swath.schemas.errors import ModelError

if TYPE_CHECKING:
    import torch

GENTLY = 0.3
"""Share of the learning rate for a network that has learnt something already."""
Row = dict[str, str | float]
"""A line of a table in the card."""


class Settings(BaseModel):
    """How a network is fitted; what is left out is chosen for the kind of training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(default=None, ge=32, le=4096)
    """Side in pixels of what the network is shown."""
    batch: int | None = Field(default=None, ge=1, le=4096)
    steps: int = Field(default=400, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    patience: int = Field(default=8, ge=1)
    """Evaluations without a better figure after which it stops; there are 20 in all."""
    upright: bool | None = None
    """Up is up in these pictures; for classes it usually is, for masks and boxes from above it is not."""
    held_out: float = Field(default=0.25, gt=0, lt=1)
    group: str | None = None
    seed: int = 0
    workers: int = Field(default=0, ge=0)
    """Processes that decode and draw."""
    device: str | None = None
    checkpoint_seconds: float = Field(default=60, ge=0)
    """What is lost at most when it is interrupted."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"


class Task(Protocol):
    """One training: what is drawn, what is lost, how good it is."""

    best: str
    """The figure that decides which weights are kept."""
    best_is: Literal["highest", "lowest"]
    rate: float
    """Learning rate at its highest, where the user names none."""
    begun: Start
    module: torch.nn.Module
    info: ModelInfo

    def batches(self, step: int) -> Iterator[Any]: ...

    def loss(self, module: torch.nn.Module, batch: Any) -> torch.Tensor: ...

    def evaluate(self, module: torch.nn.Module) -> Figures: ...

    def finish(self, module: torch.nn.Module) -> tuple[ModelInfo, Figures, list[Row]]:
        """Of the weights that are kept: what is to be said of them, their figures, and those of each class."""
        ...

    def baselines(self) -> dict[str, float]:
        """`best`-like figures of what needs no training, on the same held-out pictures."""
        ...


@dataclass(frozen=True)
class Start:
    """An untrained network, or one that has learnt something else."""

    module: torch.nn.Module
    info: ModelInfo
    said: str


def start(
    kind: ModelTask,
    labelled: Labelled,
    split: Split,
    model: str | None,
    named: str,
    sized: Callable[[str], dict[str, Any]],
    size: int | None = None,
) -> Start:
    """A network for these classes: from the model of a reference, where one is given, all layers that fit.

    `named` is the architecture where neither `model` nor the user names one; `sized` gives the arguments that say how
    many classes an architecture is for. Raises ModelError.
    """
    mean, std = normalisation([view.looked for view in split.train])
    info = ModelInfo(task=kind, classes=labelled.classes, size=size, mean=mean, std=std, trained_on=labelled.source)
    import torch

    from swath.operators.models.files import WEIGHTS, state_dict
    from swath.operators.models.modules import build
    from swath.operators.models.reference import find_model

    torch.manual_seed(0)
    if model is None:
        whole = info.model_copy(update={"architecture": named, "arguments": sized(named)})
        return Start(build(whole).train(), whole, f"{named}, from random weights")
    file = find_model(model)
    architecture = file.info.architecture
    if architecture is None or file.path.suffix.lower() not in WEIGHTS:
        raise ModelError(
            f"{model!r} cannot be trained further: it is no weights file that names its architecture; give "
            "torchvision:NAME, swath:NAME, or a .safetensors file that `swath train` wrote"
        )
    arguments = file.info.arguments | sized(architecture)
    taken: dict[str, Any] = {"architecture": architecture, "arguments": arguments}
    if info.size is None:
        taken["size"] = None
    whole = file.info.model_copy(
        update=info.model_dump(include={"task", "classes", "trained_on", "date", "licence"}) | taken
        | {"figures": {}, "temperature": 1.0}
    )  # fmt: skip
    module = build(whole)
    own, given = module.state_dict(), state_dict(file.path)
    fitting = {name: tensor.to(own[name].dtype) for name, tensor in given.items()
               if name in own and own[name].shape == tensor.shape}  # fmt: skip
    share = sum(own[name].numel() for name in fitting) / max(sum(tensor.numel() for tensor in own.values()), 1)
    if share < 0.3:
        raise ModelError(f"{model!r} has hardly a layer that fits {architecture} here ({share:.0%} of its weights)")
    module.load_state_dict(fitting, strict=False)
    fresh = sorted({name.rpartition(".")[0] for name in own.keys() - fitting.keys()})
    said = f"{architecture}, from {model} (sha256 {file.sha256[:12]}…)"
    return Start(module.train(), whole, f"{said}; new: {', '.join(fresh)}" if fresh else said)


def sentence(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
