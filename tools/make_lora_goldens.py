"""LoRA files and the pictures that diffusers makes with them on the diffusers folder of the demo model, by torch (float32, CPU).

Run: python make_lora_goldens.py MODEL_DIR LORAS_DIR OUT_DIR
LORAS_DIR/NAME.safetensors: random A (rank, in) and B (out, rank) for the linear layers below, with diffusers' names.
OUT_DIR/CASE.json: the call, latents after every step (base64 float32), RGB (base64); the reference adds scale * (alpha / rank) * B @ A to the
weights. Made with diffusers 58eb52c, torch 2.13.0.
"""
import base64
import json
import sys

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import save_file

LORAS = [
    {"name": "wobble", "seed": 21, "rank": 4, "size": 0.15, "targets": ["attn.to_q", "attn.to_v", "attn.to_out.0"]},
    {"name": "tint", "seed": 22, "rank": 8, "alpha": 4, "size": 0.2, "targets": ["attn.to_k", "ff.net.2", "attn.add_q_proj"]},
]
CASES = [
    {"name": "lora-wobble", "seed": 42, "loras": [{"id": "wobble", "scale": 1.0}], "prompt": "a red boat on the sea"},
    {"name": "lora-both", "seed": 43, "loras": [{"id": "wobble", "scale": 0.5}, {"id": "tint", "scale": -0.8}], "prompt": "a cat at night"},
]


def base64_of(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def make_lora(spec, weights, folder):
    """Writes the file and returns what the LoRA adds to each weight at scale 1."""
    generator = torch.Generator().manual_seed(spec["seed"])
    rank = spec["rank"]
    tensors, added = {}, {}
    for key, weight in sorted(weights.items()):
        if not (key.endswith(".weight") and weight.ndim == 2 and any(target in key for target in spec["targets"])):
            continue
        name = key[: -len(".weight")]
        rows, columns = weight.shape
        a = (torch.randn(rank, columns, generator=generator) / columns**0.5).half()
        b = (torch.randn(rows, rank, generator=generator) * spec["size"]).half()
        tensors[f"transformer.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"transformer.{name}.lora_B.weight"] = b.contiguous()
        if "alpha" in spec:
            tensors[f"transformer.{name}.alpha"] = torch.tensor(float(spec["alpha"]))
        added[key] = (spec.get("alpha", rank) / rank) * (b.float() @ a.float())
    save_file(tensors, f"{folder}/{spec['name']}.safetensors", metadata={"format": "pt"})
    return added


def main(model, loras_dir, out):
    pipe = StableDiffusion3Pipeline.from_pretrained(model, torch_dtype=torch.float32)
    weights = {key: value.clone() for key, value in pipe.transformer.state_dict().items()}
    with open(f"{model}/generation_config.json") as file:
        defaults = json.load(file)
    loras = {spec["name"]: make_lora(spec, weights, loras_dir) for spec in LORAS}
    for case in CASES:
        changed = {key: value.clone() for key, value in weights.items()}
        for choice in case["loras"]:
            for key, added in loras[choice["id"]].items():
                changed[key] += choice["scale"] * added
        pipe.transformer.load_state_dict(changed)
        steps = []

        def keep(_pipe, _step, _timestep, tensors):
            steps.append(tensors["latents"].clone().numpy().astype("<f4"))
            return tensors

        call = {**defaults, "prompt": case["prompt"], "num_inference_steps": 8}
        generator = torch.Generator().manual_seed(case["seed"])
        image = pipe(**call, generator=generator, callback_on_step_end=keep, output_type="np").images[0]
        golden = {
            "name": case["name"],
            "seed": case["seed"],
            "loras": case["loras"],
            "call": call,
            "shape": list(steps[-1].shape),
            "steps": [base64_of(step) for step in steps],
            "rgb": base64_of((image * 255).round().astype("uint8")),
        }
        with open(f"{out}/{case['name']}.json", "w") as file:
            json.dump(golden, file)


main(*sys.argv[1:4])
