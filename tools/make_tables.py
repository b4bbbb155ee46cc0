"""Makes the reference tables of packages/pipeline/test/golden: random numbers, noise schedules and token ids.

    python make_tables.py GOLDEN_DIR [--tokenizers DIR] [--model DIR]

randn.json        torch.randn of a generator on the CPU: a hash, the first and the last values
schedulers.json   FlowMatchEulerDiscreteScheduler: sigmas, timesteps, and the results of steps with fixed predictions
scale_noise.json  the same scheduler's scale_noise
tokens.json       token ids of the tokenizers of Stable Diffusion 3 (with --tokenizers: a folder with tokenizer, tokenizer_2, tokenizer_3)
tokens-tiny-scenes.json  the same for the demo model (with --model)
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import AutoTokenizer, CLIPTokenizer

from golden_values import encode_floats, generator, hash_floats, write_json

SEEDS = (0, 1, 42, 2**31, 2**32 - 1, 2**32 + 42, 1234567890123, 2**53 - 1)
"""Seeds of up to 32 bits and of more."""
DRAWS = ([1], [15], [16], [37], [100], [4096], [65536], [3, 5, 16, 7, 37, 2], [16384, 16384])
"""Shapes drawn one after another from one generator. Below 16 values torch draws in pairs and keeps the second value; from 16 on, in blocks."""

LATENTS = (1, 16, 4, 4)
DYNAMIC = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}

TEXTS = [
    "",
    "a photo of a cat",
    "A  Photo\tof\n a CAT!!!",
    "hello! world!",
    "it's 1234 o'clock, don't",
    "你好世界 こんにちは 안녕",
    "naïve café — “quotes” … ﬁ ligature",
    "🚀🔥 emoji 👩‍👩‍👧 family",
    "مرحبا بالعالم",
    "<|endoftext|> <|startoftext|>",
    "nul\x00byte",
    "x" * 300,
    "word " * 100,
    "a-b_c/d\\e@f#g$h%i^j&k*l(m)n",
    "ÀÉÎÕÜ ß İ",
    " leading and trailing ",
]


def randn_table() -> list[dict]:
    table = []
    for seed in SEEDS:
        for lengths in DRAWS:
            source = generator(seed)
            values = torch.cat([torch.randn(length, generator=source) for length in lengths])
            ends = {"head": encode_floats(values[:64]), "tail": encode_floats(values[-32:])}
            table.append({"seed": str(seed), "calls": lengths, "sha256": hash_floats(values), **ends})
    return table


def schedule(name: str, config: dict, **call) -> dict:
    """The schedule that a call to set_timesteps gives and the steps along it, or the error that it raises."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    entry = {"name": name, "config": config, "call": call}
    try:
        scheduler.set_timesteps(**call)
    except Exception as error:  # Any error is the reference.
        return {**entry, "error": f"{type(error).__name__}: {error}"}
    sample = torch.randn(LATENTS, generator=generator(7))
    noise = generator(11)
    trajectory = []
    for step, timestep in enumerate(scheduler.timesteps):
        prediction = torch.randn(LATENTS, generator=generator(100 + step))
        sample = scheduler.step(prediction, timestep, sample, generator=noise, return_dict=False)[0]
        trajectory.append(hash_floats(sample))
    return {
        **entry,
        "sigmas": encode_floats(scheduler.sigmas),
        "timesteps": encode_floats(scheduler.timesteps),
        "order": scheduler.order,
        "trajectory_sha256": trajectory,
        "final": encode_floats(sample),
    }


def scheduler_table() -> list[dict]:
    """Needs scipy, because of `use_beta_sigmas`."""
    shifted = {"shift": 3.0}
    twelve = np.linspace(1, 1 / 12, 12).tolist()
    return [
        *(schedule(f"shift3-{steps}", shifted, num_inference_steps=steps) for steps in (1, 2, 4, 7, 20, 28, 50, 200)),
        *(schedule(f"shift{shift}-28", {"shift": shift}, num_inference_steps=28) for shift in (1.0, 0.5, 6.0)),
        *(schedule(f"dynamic-mu{mu}", DYNAMIC, num_inference_steps=28, mu=mu) for mu in (0.5, 0.8, 1.15, 1.16)),
        schedule("dynamic-linear", {**DYNAMIC, "time_shift_type": "linear"}, num_inference_steps=20, mu=0.9),
        schedule("dynamic-no-mu", DYNAMIC, num_inference_steps=28),
        schedule("custom-sigmas", shifted, sigmas=[1.0, 0.9, 0.6, 0.3, 0.1]),
        schedule("custom-sigmas-dynamic", DYNAMIC, sigmas=twelve, mu=0.7),
        schedule("custom-timesteps", shifted, timesteps=[1000.0, 750.0, 500.0, 250.0]),
        schedule("sigmas-and-wrong-n", shifted, sigmas=[1.0, 0.5], num_inference_steps=3),
        *(
            schedule(choice, {**shifted, choice: True}, num_inference_steps=12)
            for choice in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
        ),
        schedule("invert-sigmas", {**shifted, "invert_sigmas": True}, num_inference_steps=8),
        schedule("shift-terminal", {**DYNAMIC, "shift_terminal": 0.1}, num_inference_steps=10, mu=0.6),
        schedule("stochastic", {**shifted, "stochastic_sampling": True}, num_inference_steps=8),
    ]


def scale_noise_table() -> list[dict]:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sample, noise = (torch.randn(LATENTS, generator=generator(seed)) for seed in (1, 2))
    scheduler.set_timesteps(10)
    table = []
    for index in (0, 3, 9):
        out = scheduler.scale_noise(sample, scheduler.timesteps[index : index + 1], noise)
        seeds = {"sample_seed": 1, "noise_seed": 2}
        table.append({"num_inference_steps": 10, "index": index, **seeds, "out": encode_floats(out)})
    return table


def token_table(folder: Path, lengths: dict[str, int]) -> dict:
    """`lengths`: the length to which each tokenizer's rows are padded or truncated."""
    table: dict = {"texts": TEXTS}
    for name, length in lengths.items():
        # The real CLIP tokenizers are only vocabulary files, so their class has to be named.
        cls = CLIPTokenizer if (folder / name / "merges.txt").exists() else AutoTokenizer
        tokenizer = cls.from_pretrained(folder / name)
        padded = {"padding": "max_length", "max_length": length, "truncation": True, "add_special_tokens": True}
        table[name] = {"max_length": length, "ids": [tokenizer(text, **padded).input_ids for text in TEXTS]}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder to write")
    parser.add_argument("--tokenizers", type=Path, help="folder with the tokenizers of Stable Diffusion 3")
    parser.add_argument("--model", type=Path, help="folder of the demo model")
    arguments = parser.parse_args()

    warnings.filterwarnings("ignore")
    write_json(arguments.golden / "randn.json", randn_table())
    write_json(arguments.golden / "schedulers.json", scheduler_table())
    write_json(arguments.golden / "scale_noise.json", scale_noise_table())
    if arguments.tokenizers is not None:
        lengths = {"tokenizer": 77, "tokenizer_2": 77, "tokenizer_3": 256}
        write_json(arguments.golden / "tokens.json", token_table(arguments.tokenizers, lengths), indent=None)
    if arguments.model is not None:
        lengths = {"tokenizer": 20, "tokenizer_2": 20, "tokenizer_3": 20}
        write_json(arguments.golden / "tokens-tiny-scenes.json", token_table(arguments.model, lengths), indent=None)


if __name__ == "__main__":
    main()
