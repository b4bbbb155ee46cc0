"""What diffusers' StableDiffusion3Pipeline makes of a folder, by torch in float32 on the CPU, for the tests of packages/pipeline.

Run: python make_pipeline_goldens.py MODEL_DIR CASES.json OUT.json
CASES.json: [{"name"?, "seed", "call": {...}}]; the model's generation_config.json holds the rest of each call. OUT.json holds, for each case, the
whole call, the latents after every step (base64 of float32) and the first picture (base64 of RGB bytes).
Made with diffusers 0.42.1, transformers 5.24, torch 2.13.
"""
import base64, json, os, sys

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline

folder, cases, out = sys.argv[1:]


def encode(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


with open(f"{folder}/generation_config.json") as file:
    defaults = json.load(file)
pipe = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
results = []
with open(cases) as file:
    cases = json.load(file)
for case in cases:
    call, steps = {**defaults, **case["call"]}, []

    def keep(pipe, step, timestep, tensors):
        steps.append(encode(tensors["latents"].numpy().astype("<f4")))
        return tensors

    generator = torch.Generator().manual_seed(case["seed"])
    image = pipe(**call, generator=generator, callback_on_step_end=keep, output_type="np").images[0]
    results.append({**case, "call": call, "steps": steps, "rgb": encode((image * 255).round().astype("uint8"))})
    print(case.get("name", case["seed"]), image.shape)
with open(out, "w") as file:
    json.dump({"name": os.path.basename(os.path.normpath(folder)), "cases": results}, file)
