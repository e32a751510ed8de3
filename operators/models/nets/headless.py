"""Any of our or torchvision's classifiers without its last layer: what it gives is what that layer would have read."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from swath.operators.models.info import ModelInfo


class NoHead(nn.Identity):
    """In the place of a last layer, whose weights it leaves aside."""

    def _load_from_state_dict(self, *given: Any) -> None:
        pass


class Headless(nn.Module):
    """(N, 3, H, W) to (N, features); takes the weights of the whole classifier, whatever its classes are."""

    def __init__(self, architecture: str, arguments: dict[str, Any] | None = None) -> None:
        from swath.operators.models.modules import build  # which imports the networks here

        super().__init__()
        whole = build(ModelInfo(architecture=architecture, arguments=arguments or {}))
        layers = [name for name, layer in whole.named_modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise ValueError(f"{architecture!r} has no last linear layer; export its features as ONNX instead")
        parent, _, name = layers[-1].rpartition(".")
        setattr(whole.get_submodule(parent), name, NoHead())
        self.backbone = whole

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.backbone.load_state_dict(dict(state_dict), strict, assign)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        return features
