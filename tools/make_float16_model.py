"""Makes the float16 model of the pipeline's tests, and the references that torch and diffusers compute with it.

    python make_float16_model.py OUTPUT_FOLDER

The folder gets a Stable Diffusion 3 model without text encoders whose two graphs are a few float16 operators each, and expected.json: the
latents after every step and the picture of one guided call. The model draws nothing meaningful. It exists to test that everything around the
graphs is computed in float16: noise, guidance, steps, the scale of latents and the conversion to pixels.
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from onnx import TensorProto, helper, numpy_helper

CHANNELS, TEXT_WIDTH, POOLED_WIDTH, TOKENS = 16, 8, 16, 6
LATENT_SIDE, VAE_SCALE = 8, 8
SCALING_FACTOR, SHIFT_FACTOR = 1.5305, 0.0609
SEED, STEPS, GUIDANCE_SCALE = 42, 4, 4.3
OPSET = 18


def randn(seed: int, *dims: int) -> torch.Tensor:
    """Normal values that the tests draw too. If their number is divisible by 16, torch's float16 values are its float32 values, rounded."""
    return torch.randn(dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float16)


def constant(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def half(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT16, dims)


def save(path: Path, nodes, inputs, outputs, constants) -> None:
    graph = helper.make_graph(nodes, path.parent.name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def save_transformer(path: Path) -> None:
    """tanh(latents · a + text · b + pooled · c + timestep / 1000), so that every input changes every value."""

    def weights(seed: int, *dims: int) -> np.ndarray:
        return randn(seed, *dims).numpy()

    nodes = [
        helper.make_node("ReduceMean", ["encoder_hidden_states", "token_axis"], ["mean_text"], keepdims=0),
        helper.make_node("MatMul", ["mean_text", "text_weight"], ["text"]),
        helper.make_node("MatMul", ["pooled_projections", "pooled_weight"], ["pooled"]),
        helper.make_node("Add", ["text", "pooled"], ["condition"]),
        helper.make_node("Unsqueeze", ["condition", "picture_axes"], ["condition_map"]),
        helper.make_node("Mul", ["timestep", "per_timestep"], ["time"]),
        helper.make_node("Unsqueeze", ["time", "row_axes"], ["time_map"]),
        helper.make_node("Mul", ["hidden_states", "latent_weight"], ["weighted"]),
        helper.make_node("Add", ["weighted", "condition_map"], ["conditioned"]),
        helper.make_node("Add", ["conditioned", "time_map"], ["timed"]),
        helper.make_node("Tanh", ["timed"], ["out_hidden_states"]),
    ]
    inputs = [
        half("hidden_states", "batch", CHANNELS, "height", "width"),
        half("timestep", "step"),
        half("encoder_hidden_states", "batch", "tokens", TEXT_WIDTH),
        half("pooled_projections", "batch", POOLED_WIDTH),
    ]
    constants = [
        constant("token_axis", np.array([1])),
        constant("picture_axes", np.array([2, 3])),
        constant("row_axes", np.array([1, 2, 3])),
        constant("text_weight", weights(1, TEXT_WIDTH, CHANNELS)),
        constant("pooled_weight", weights(2, POOLED_WIDTH, CHANNELS)),
        constant("latent_weight", weights(3, 1, CHANNELS, 1, 1)),
        constant("per_timestep", np.array(0.001, dtype=np.float16)),
    ]
    save(path, nodes, inputs, [half("out_hidden_states", "batch", CHANNELS, "height", "width")], constants)


def save_decoder(path: Path) -> None:
    """Mixes the channels to three and repeats each pixel, without any smoothing."""
    nodes = [
        helper.make_node("Conv", ["latent_sample", "weight"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["colours"]),
        helper.make_node("Resize", ["colours", "", "scales"], ["sample"], mode="nearest", coordinate_transformation_mode="asymmetric"),
    ]
    constants = [
        constant("weight", (randn(4, 3, CHANNELS, 1, 1) * 0.3).numpy()),
        constant("scales", np.array([1, 1, VAE_SCALE, VAE_SCALE], dtype=np.float32)),
    ]
    inputs = [half("latent_sample", "batch", CHANNELS, "height", "width")]
    save(path, nodes, inputs, [half("sample", "batch", 3, "rows", "columns")], constants)


def save_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def save_configs(folder: Path) -> None:
    parts = {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "transformer": ["diffusers", "SD3Transformer2DModel"]}
    save_json(folder / "model_index.json", {"_class_name": "StableDiffusion3Pipeline", **parts, "vae": ["diffusers", "AutoencoderKL"]})
    save_json(folder / "scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    transformer = {
        "in_channels": CHANNELS,
        "joint_attention_dim": TEXT_WIDTH,
        "patch_size": 2,
        "pooled_projection_dim": POOLED_WIDTH,
        "pos_embed_max_size": 64,
        "sample_size": LATENT_SIDE,
    }
    save_json(folder / "transformer/config.json", transformer)
    vae = {"block_out_channels": [1, 1, 1, 1], "latent_channels": CHANNELS, "scaling_factor": SCALING_FACTOR, "shift_factor": SHIFT_FACTOR}
    save_json(folder / "vae_decoder/config.json", vae)


def encode(tensor: torch.Tensor) -> str:
    return base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()


def generate(folder: Path) -> dict:
    """One guided call in float16, as diffusers' StableDiffusion3Pipeline runs it."""
    transformer = onnxruntime.InferenceSession(folder / "transformer/model.onnx", providers=["CPUExecutionProvider"])
    decoder = onnxruntime.InferenceSession(folder / "vae_decoder/model.onnx", providers=["CPUExecutionProvider"])
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(STEPS)
    # The negative prompt comes first.
    text = torch.cat([randn(12, 1, TOKENS, TEXT_WIDTH), randn(10, 1, TOKENS, TEXT_WIDTH)])
    pooled = torch.cat([randn(13, 1, POOLED_WIDTH), randn(11, 1, POOLED_WIDTH)])
    latents = randn(SEED, 1, CHANNELS, LATENT_SIDE, LATENT_SIDE)
    steps = []
    for timestep in scheduler.timesteps:
        feeds = {
            "hidden_states": torch.cat([latents, latents]).numpy(),
            "timestep": timestep.half().expand(2).numpy(),
            "encoder_hidden_states": text.numpy(),
            "pooled_projections": pooled.numpy(),
        }
        uncond, cond = torch.from_numpy(transformer.run(None, feeds)[0]).chunk(2)
        noise = uncond + GUIDANCE_SCALE * (cond - uncond)
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
        steps.append(encode(latents))
    unscaled = latents / SCALING_FACTOR + SHIFT_FACTOR
    sample = torch.from_numpy(decoder.run(None, {"latent_sample": unscaled.numpy()})[0])
    pixels = (sample * 0.5 + 0.5).clamp(0, 1).float().permute(0, 2, 3, 1).numpy()
    image = (pixels * 255).round().astype(np.uint8)
    return {"steps": steps, "image": base64.b64encode(image.tobytes()).decode()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write")
    folder = parser.parse_args().folder
    save_transformer(folder / "transformer/model.onnx")
    save_decoder(folder / "vae_decoder/model.onnx")
    save_configs(folder)
    save_json(folder / "expected.json", generate(folder))


if __name__ == "__main__":
    main()
