"""Architectures of our own; each module imports torch, so none is imported before it is needed."""

OURS = {
    "swath.super_res": "super_res:SuperRes",
    "swath.denoise": "denoise:Denoise",
    "swath.unet": "unet:UNet",
    "swath.centers": "centers:Centers",
    "swath.image_kind": "image_kind:ImageKind",
    "swath.headless": "headless:Headless",
}
"""From the name in `ModelInfo.architecture` to module and class, whose constructor takes `ModelInfo.arguments`."""
