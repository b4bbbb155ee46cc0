"""Makes golden/diffusers/tiny-scenes.json: what diffusers' StableDiffusion3Pipeline draws with a folder, by torch in float32 on the CPU.

    python make_pipeline_goldens.py MODEL cases/tiny-scenes.json OUTPUT.json

A case is {"name", "seed", "call"}. Parameters that a call omits come from the model's generation_config.json. The output holds, for each case, the
whole call, the latents after every step (base64 of float32) and the first picture (base64 of RGB bytes).
"""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline

from golden_values import StepRecorder, encode_bytes, encode_floats, generator, read_json, to_pixels, write_json


def draw(pipeline: StableDiffusion3Pipeline, case: dict, defaults: dict) -> dict:
    call = {**defaults, **case["call"]}
    steps = StepRecorder()
    image = pipeline(**call, generator=generator(case["seed"]), callback_on_step_end=steps, output_type="np").images[0]
    latents = [encode_floats(each) for each in steps.latents]
    return {**case, "call": call, "steps": latents, "rgb": encode_bytes(to_pixels(image))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder in diffusers' layout")
    parser.add_argument("cases", type=Path, help="file of cases")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()

    defaults = read_json(arguments.model / "generation_config.json")
    names = ("width", "height", "num_inference_steps", "guidance_scale", "max_sequence_length")
    defaults = {name: defaults[name] for name in names if name in defaults}
    pipeline = StableDiffusion3Pipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    cases = [draw(pipeline, case, defaults) for case in read_json(arguments.cases)]
    write_json(arguments.output, {"name": arguments.model.resolve().name, "cases": cases}, indent=None)


if __name__ == "__main__":
    main()
