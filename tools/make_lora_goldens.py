"""Makes LoRA files, and references of what torch draws with them on the demo model: packages/pipeline/test/loras and golden/lora.

    python make_lora_goldens.py MODEL LORAS GOLDEN

LORAS/NAME.safetensors: random A (rank, in) and B (out, rank) for the linear layers below, with diffusers' names. GOLDEN/CASE.json: the call, the
latents after every step (base64 of float32) and the picture (base64 of RGB bytes); the reference adds scale * (alpha / rank) * B @ A to
the weights.
"""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import save_file

from golden_values import StepRecorder, encode_bytes, encode_floats, generator, read_json, to_pixels, write_json

LORAS = [
    {"name": "wobble", "seed": 21, "rank": 4, "size": 0.15, "targets": ["attn.to_q", "attn.to_v", "attn.to_out.0"]},
    {"name": "tint", "seed": 22, "rank": 8, "alpha": 4, "size": 0.2, "targets": ["attn.to_k", "ff.net.2", "attn.add_q_proj"]},
]
CASES = [
    {"name": "lora-wobble", "seed": 42, "loras": [{"id": "wobble", "scale": 1.0}], "prompt": "a red boat on the sea"},
    {"name": "lora-both", "seed": 43, "loras": [{"id": "wobble", "scale": 0.5}, {"id": "tint", "scale": -0.8}], "prompt": "a cat at night"},
]
STEPS = 8

Weights = dict[str, torch.Tensor]


def make_lora(spec: dict, weights: Weights, folder: Path) -> Weights:
    """Writes the file and returns what the LoRA adds to each weight at scale 1."""
    source = generator(spec["seed"])
    rank = spec["rank"]
    tensors, added = {}, {}
    for key, weight in sorted(weights.items()):
        is_matrix = key.endswith(".weight") and weight.ndim == 2
        if not (is_matrix and any(target in key for target in spec["targets"])):
            continue
        name = key.removesuffix(".weight")
        rows, columns = weight.shape
        a = (torch.randn(rank, columns, generator=source) / columns**0.5).half()
        b = (torch.randn(rows, rank, generator=source) * spec["size"]).half()
        tensors[f"transformer.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"transformer.{name}.lora_B.weight"] = b.contiguous()
        if "alpha" in spec:
            tensors[f"transformer.{name}.alpha"] = torch.tensor(float(spec["alpha"]))
        added[key] = (spec.get("alpha", rank) / rank) * (b.float() @ a.float())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{spec['name']}.safetensors", metadata={"format": "pt"})
    return added


def add_loras(weights: Weights, choices: list[dict], loras: dict[str, Weights]) -> Weights:
    changed = {key: value.clone() for key, value in weights.items()}
    for choice in choices:
        for key, added in loras[choice["id"]].items():
            changed[key] += choice["scale"] * added
    return changed


def draw(pipeline: StableDiffusion3Pipeline, case: dict, defaults: dict) -> dict:
    call = {**defaults, "prompt": case["prompt"], "num_inference_steps": STEPS}
    steps = StepRecorder()
    image = pipeline(**call, generator=generator(case["seed"]), callback_on_step_end=steps, output_type="np").images[0]
    return {
        "name": case["name"],
        "seed": case["seed"],
        "loras": case["loras"],
        "call": call,
        "shape": list(steps.latents[-1].shape),
        "steps": [encode_floats(latents) for latents in steps.latents],
        "rgb": encode_bytes(to_pixels(image)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the demo model in diffusers' layout")
    parser.add_argument("loras", type=Path, help="folder to write LoRAs into")
    parser.add_argument("golden", type=Path, help="folder to write references into")
    arguments = parser.parse_args()

    defaults = read_json(arguments.model / "generation_config.json")
    defaults = {name: value for name, value in defaults.items() if name != "examples"}
    pipeline = StableDiffusion3Pipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    weights = {key: value.clone() for key, value in pipeline.transformer.state_dict().items()}
    loras = {spec["name"]: make_lora(spec, weights, arguments.loras) for spec in LORAS}
    for case in CASES:
        pipeline.transformer.load_state_dict(add_loras(weights, case["loras"], loras))
        write_json(arguments.golden / f"{case['name']}.json", draw(pipeline, case, defaults), indent=None)
        print(case["name"])


if __name__ == "__main__":
    main()
