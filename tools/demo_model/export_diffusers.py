"""Assembles the trained parts of the demo model into a diffusers folder with float16 weights.

    python export_diffusers.py DENOISER AUTOENCODER MODEL

MODEL becomes what models/tiny-scenes is, except for its model card and preview_projection.json, which `npm run fit-preview MODEL` adds.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from networks import BEGIN, END, TOKENS, Denoiser, Tokenizers
from tokenizers import Tokenizer
from train_denoiser import load_weights
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

GENERATION = {"width": 128, "height": 128, "num_inference_steps": 20, "guidance_scale": 4.0, "max_sequence_length": TOKENS}
TEXTS = ["a red boat on the sea", "A Big  green cat at night!", "zebra ünïcode 你好 12", "", "a " * 60]
"""Texts that the exported tokenizers must tokenize exactly as those used in training."""


def to_clip_tokenizer(tokenizer: Tokenizer) -> CLIPTokenizer:
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge.split()) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    special = {"unk_token": END, "bos_token": BEGIN, "eos_token": END, "pad_token": END}
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=TOKENS, **special)


def to_t5_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    content = json.loads(tokenizer.to_str())
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    pattern = [{"Sequence": {"id": "A", "type_id": 0}}, end]
    ids = {"id": "</s>", "ids": [tokenizer.token_to_id("</s>")], "tokens": ["</s>"]}
    content["post_processor"] = {"type": "TemplateProcessing", "single": pattern, "pair": pattern, "special_tokens": {"</s>": ids}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(json.dumps(content))
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        return PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=TOKENS, **special)


def check_tokenizers(tokenizers: Tokenizers, clip: CLIPTokenizer, t5: PreTrainedTokenizerFast) -> None:
    padded = {"padding": "max_length", "max_length": TOKENS, "truncation": True}
    for text in TEXTS:
        for exported, ids in ((clip, tokenizers.clip_ids(text)), (t5, tokenizers.t5_ids(text))):
            found = exported(text, **padded).input_ids
            if found != ids:
                raise SystemExit(f"Expected {ids} for {text!r}, got {found} from {type(exported).__name__}")


def build_pipeline(denoiser_folder: Path, autoencoder_folder: Path) -> StableDiffusion3Pipeline:
    tokenizers = Tokenizers.load(denoiser_folder)
    denoiser = Denoiser(tokenizers).eval()
    checkpoint = load_weights(denoiser, denoiser_folder)
    autoencoder = AutoencoderKL.from_pretrained(autoencoder_folder).eval()
    autoencoder.register_to_config(scaling_factor=checkpoint["scale"], shift_factor=checkpoint["shift"])
    t5 = to_t5_tokenizer(tokenizers.t5)
    clip, clip_2 = to_clip_tokenizer(tokenizers.clip), to_clip_tokenizer(tokenizers.clip)
    check_tokenizers(tokenizers, clip, t5)
    return StableDiffusion3Pipeline(
        transformer=denoiser.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=clip,
        text_encoder_2=denoiser.text_encoder_2,
        tokenizer_2=clip_2,
        text_encoder_3=denoiser.text_encoder_3,
        tokenizer_3=t5,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("denoiser", type=Path, help="folder of train_denoiser.py")
    parser.add_argument("autoencoder", type=Path, help="folder of train_autoencoder.py")
    parser.add_argument("model", type=Path, help="folder to write")
    arguments = parser.parse_args()

    shutil.rmtree(arguments.model, ignore_errors=True)
    pipeline = build_pipeline(arguments.denoiser, arguments.autoencoder).to(torch.float16)
    pipeline.save_pretrained(arguments.model)
    (arguments.model / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")
    print(f"{arguments.model}: npm run fit-preview {arguments.model} adds the projection of previews")


if __name__ == "__main__":
    main()
