"""Makes the pictures that Python's ONNX pipelines draw with an exported model: packages/pipeline/test/golden/pipeline and golden/img2img.

    python make_onnx_goldens.py MODEL cases/pipeline.json OUTPUT
    python make_onnx_goldens.py MODEL cases/img2img.json OUTPUT --images IMAGES

A case is {"name", "kind", "seed", "call"}, with kind text2img (the default), img2img or inpaint, and for the last two "image" and "mask": files in
IMAGES that have the size of the picture to draw, so that nothing is resized. Parameters that a call omits come from the model's
generation_config.json; `latents_seed` stands for initial latents drawn with that seed. OUTPUT gets NAME.png and NAME.json: the call, a hash of
the float32 latents after every step, the last latents, and a hash of each picture's RGB. The masks of the cases are drawn into OUTPUT/inputs.

The same seed, call and version of ONNX Runtime give the same bytes on the same kind of processor; on others some values may differ by one
level. With --images the picture is decoded from the last latents here, as latents / scaling_factor + shift_factor: the inpainting pipeline
of diffusers omits the shift.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from optimum.onnxruntime import (
    ORTStableDiffusion3Img2ImgPipeline,
    ORTStableDiffusion3InpaintPipeline,
    ORTStableDiffusion3Pipeline,
)
from PIL import Image, ImageDraw
from transformers import PreTrainedTokenizerFast

from golden_values import StepRecorder, generator, hash_images, hashed_steps, read_json, save_images, to_pixels, write_json

PIPELINES = {
    "text2img": ORTStableDiffusion3Pipeline,
    "img2img": ORTStableDiffusion3Img2ImgPipeline,
    "inpaint": ORTStableDiffusion3InpaintPipeline,
}


def draw_masks(folder: Path) -> None:
    """Draws the masks, which are white where the picture is repainted."""
    folder.mkdir(parents=True, exist_ok=True)
    disc = Image.new("L", (128, 128))
    ImageDraw.Draw(disc).ellipse([30, 30, 98, 98], fill=255)
    disc.save(folder / "mask-disc-128.png")
    right = Image.new("L", (192, 96))
    right.paste(255, (96, 0, 192, 96))
    right.save(folder / "mask-right-192x96.png")


class Painter:
    """One pipeline of each kind over one model, loaded when it is needed."""

    def __init__(self, model: Path):
        self.model = model
        self.defaults = read_json(model / "generation_config.json")
        self.pipelines: dict = {}

    def pipeline(self, kind: str):
        if kind not in self.pipelines:
            self.pipelines[kind] = PIPELINES[kind].from_pretrained(self.model, export=False, **load_tokenizers(self.model))
            self.pipelines[kind].set_progress_bar_config(disable=True)
        return self.pipelines[kind]

    def draw(self, case: dict) -> tuple[dict, np.ndarray]:
        """The reference of a text-to-image case, and its pictures."""
        call = {**self.defaults, **case["call"]}
        if "sigmas" in call:
            call["num_inference_steps"] = len(call["sigmas"])
        given = dict(call)
        if "latents_seed" in given:
            shape = (1, 16, given["height"] // 8, given["width"] // 8)
            given["latents"] = torch.randn(shape, generator=generator(given.pop("latents_seed")))
        steps = StepRecorder()
        images = self.pipeline("text2img")(**given, generator=generator(case["seed"]), callback_on_step_end=steps, output_type="np").images
        pixels = to_pixels(images)
        names = {"name": case["name"], "seed": case["seed"]}
        return {**names, "call": call, **hashed_steps(steps), "image_sha256": hash_images(pixels)}, pixels

    def draw_from_picture(self, case: dict, images: Path, masks: Path) -> tuple[dict, np.ndarray]:
        """The reference of an img2img or inpainting case, and its pictures."""
        pipeline = self.pipeline(case["kind"])
        image = Image.open(images / case["image"]).convert("RGB")
        size = {"width": image.width, "height": image.height}
        call = {**self.defaults, **case["call"], **size}
        given = {**call, "image": image}
        if "mask" in case:
            given["mask_image"] = Image.open(masks / case["mask"]).convert("L")
        steps = StepRecorder()
        pipeline(**given, generator=generator(case["seed"]), callback_on_step_end=steps, output_type="latent")
        pixels = to_pixels(decode(pipeline.vae, steps.latents[-1]))
        names = {key: case[key] for key in ("name", "kind", "seed", "image", "mask") if key in case}
        reference = {**names, "call": call, "timesteps": steps.timesteps, **hashed_steps(steps)}
        return {**reference, "image_sha256": hash_images(pixels)}, pixels


def load_tokenizers(model: Path) -> dict[str, PreTrainedTokenizerFast]:
    """Loaded from tokenizer.json, because a model may name classes of a newer transformers than optimum supports."""
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    return {name: PreTrainedTokenizerFast.from_pretrained(model / name) for name in names}


def decode(vae, latents: np.ndarray) -> np.ndarray:
    """(pictures, height, width, 3) floats from 0 to 1."""
    scaled = torch.from_numpy(latents) / vae.config.scaling_factor + vae.config.shift_factor
    sample = torch.as_tensor(vae.decode(scaled, return_dict=False)[0])
    return (sample * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an export to ONNX")
    parser.add_argument("cases", type=Path, help="file of cases")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--images", type=Path, help="folder with the input pictures and masks of the cases")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these cases")
    arguments = parser.parse_args()

    warnings.filterwarnings("ignore")
    painter = Painter(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    inputs = arguments.output / "inputs"
    if arguments.images is not None:
        draw_masks(inputs)
    for case in read_json(arguments.cases):
        if arguments.only is not None and case["name"] not in arguments.only:
            continue
        if "image" in case:
            reference, pixels = painter.draw_from_picture(case, arguments.images, inputs)
        else:
            reference, pixels = painter.draw(case)
        save_images(pixels, arguments.output, case["name"])
        write_json(arguments.output / f"{case['name']}.json", reference)
        print(case["name"], pixels.shape, flush=True)


if __name__ == "__main__":
    main()
