"""How references are stored: exact values as text, or hashes where there would be too many values."""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def float_bytes(values: np.ndarray | torch.Tensor) -> bytes:
    """Little-endian float32."""
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def encode_floats(values: np.ndarray | torch.Tensor) -> str:
    return base64.b64encode(float_bytes(values)).decode()


def hash_floats(values: np.ndarray | torch.Tensor) -> str:
    return hashlib.sha256(float_bytes(values)).hexdigest()


def encode_bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Floats from 0 to 1 to bytes, rounded as diffusers does it."""
    return (images * 255).round().astype("uint8")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class StepRecorder:
    """A callback for diffusers' pipelines that keeps the latents and the time of every step."""

    def __init__(self):
        self.latents: list[np.ndarray] = []
        self.timesteps: list[float] = []

    def __call__(self, _pipeline, _step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        self.latents.append(tensors["latents"].clone().numpy().astype("<f4"))
        self.timesteps.append(float(timestep))
        return tensors


def hashed_steps(recorder: StepRecorder) -> dict:
    """A hash of the latents of each step, and the last latents themselves."""
    last = recorder.latents[-1]
    return {
        "step_sha256": [hash_floats(latents) for latents in recorder.latents],
        "final_latents_shape": list(last.shape),
        "final_latents": encode_floats(last),
    }


def hash_images(pixels: np.ndarray) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]


def save_images(pixels: np.ndarray, folder: Path, name: str) -> None:
    """Writes NAME.png, or NAME-0.png and so on if there are several."""
    for index, image in enumerate(pixels):
        suffix = f"-{index}" if len(pixels) > 1 else ""
        Image.fromarray(image).save(folder / f"{name}{suffix}.png")


def read_json(path: Path):
    return json.loads(path.read_text())


def write_json(path: Path, content, indent: int | None = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=indent))
