"""Makes the small random models of packages/pipeline/test/models, and references of what torch draws with them: golden/diffusers.

    python make_random_models.py MODEL_WITH_TOKENIZERS cases/random-models.json MODELS GOLDEN

Each model has the architecture of a real one (Stable Diffusion 3, 3.5 large in shards of bfloat16, 3.5 medium without T5) and weights drawn at
random, spread widely enough that a wrong operator changes the result visibly. GOLDEN/NAME.json gets, for each case, the latents after every step,
the picture, and the embeddings of the prompt, computed by torch on the CPU in float32 from the stored weights, cast up.

A model in the file of kinds has these fields: `joint`, the width of a text embedding; `clip` and `clip_layers`, widths and layers of the two CLIP
encoders; `t5`, head width, heads and layers of T5, absent if there is no T5; `heads`, number and width of the transformer's heads; `layers`;
`qk_norm`; `dual`, the layers with a second attention; `sample_size` in latents; `pos`, the longest side in patches; `vae` and `vae_layers`, the
autoencoder's widths and the layers at each width; `dtype` and `shard`, how weights are stored; `generation`, the defaults of a call.

A model whose queries and keys have no norm (`qk_norm` null) has attention scores in the hundreds: its softmax jumps from token to token, and torch in
float32 is 0.1 away from torch in float64 after four steps. For such models `attention_scale` multiplies the weights and biases of all queries and
keys before the model is saved: with 0.1 it is as well-behaved as a trained one.
"""

import argparse
import json
import shutil
import warnings
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import nn
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from golden_values import StepRecorder, encode_bytes, encode_floats, generator, read_json, to_pixels, write_json

QUERIES_AND_KEYS = (".to_q.", ".to_k.", ".add_q_proj.", ".add_k_proj.")


@torch.no_grad()
def widen(module: nn.Module, source: torch.Generator) -> None:
    """Replaces all weights: with torch's own initialisation the network's output hardly depends on its input."""
    for name, weight in module.named_parameters():
        values = torch.randn(weight.shape, generator=source)
        if weight.ndim == 1:
            is_scale = "norm" in name and name.endswith("weight")
            weight.copy_(1 + 0.2 * values if is_scale else 0.1 * values)
        elif weight.ndim == 4:
            weight.copy_(values * (1.2 / weight[0].numel() ** 0.5))
        elif any(part in name for part in ("relative_attention_bias", "embed", "shared")):
            weight.copy_(0.5 * values)
        else:
            weight.copy_(values * (0.9 / weight.shape[-1] ** 0.5))


def vocabulary(tokenizer) -> int:
    return max(len(tokenizer), tokenizer.vocab_size)


def build_clip(tokenizer, width: int, layers: int, activation: str, row: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=vocabulary(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=row,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_act=activation,
    )
    return CLIPTextModelWithProjection(config)


def build_t5(tokenizer, kind: dict) -> T5EncoderModel | None:
    if "t5" not in kind:
        return None
    width, heads, layers = kind["t5"]
    config = T5Config(
        vocab_size=vocabulary(tokenizer),
        d_model=kind["joint"],
        d_kv=width,
        num_heads=heads,
        num_layers=layers,
        d_ff=2 * kind["joint"],
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return T5EncoderModel(config)


def build_transformer(kind: dict) -> SD3Transformer2DModel:
    heads, width = kind["heads"]
    return SD3Transformer2DModel(
        sample_size=kind["sample_size"],
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=kind["layers"],
        num_attention_heads=heads,
        attention_head_dim=width,
        joint_attention_dim=kind["joint"],
        caption_projection_dim=heads * width,
        pooled_projection_dim=sum(kind["clip"]),
        pos_embed_max_size=kind["pos"],
        qk_norm=kind.get("qk_norm"),
        dual_attention_layers=tuple(kind.get("dual", [])),
    )


def build_autoencoder(kind: dict) -> AutoencoderKL:
    widths = tuple(kind["vae"])
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=widths,
        layers_per_block=kind["vae_layers"],
        latent_channels=16,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5305,
        sample_size=64,
    )


def build_pipeline(kind: dict, tokenizers: Path) -> StableDiffusion3Pipeline:
    torch.manual_seed(kind["seed"])
    source = generator(kind["seed"])
    first, second, third = (AutoTokenizer.from_pretrained(tokenizers / f"tokenizer{suffix}") for suffix in ("", "_2", "_3"))
    row = first.model_max_length
    text_encoder = build_clip(first, kind["clip"][0], kind["clip_layers"][0], "quick_gelu", row)
    text_encoder_2 = build_clip(second, kind["clip"][1], kind["clip_layers"][1], "gelu", row)
    text_encoder_3 = build_t5(third, kind)
    transformer = build_transformer(kind)
    autoencoder = build_autoencoder(kind)
    for module in (transformer, autoencoder, text_encoder, text_encoder_2, text_encoder_3):
        if module is not None:
            widen(module.eval(), source)
    with torch.no_grad():
        # This keeps the latents of a guided call within the range that a decoder can handle.
        transformer.proj_out.weight.mul_(0.12)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=first,
        text_encoder_2=text_encoder_2,
        tokenizer_2=second,
        text_encoder_3=text_encoder_3,
        tokenizer_3=None if text_encoder_3 is None else third,
    )


@torch.no_grad()
def scale_attention(transformer: SD3Transformer2DModel, factor: float) -> None:
    for name, weight in transformer.named_parameters():
        if any(part in name for part in QUERIES_AND_KEYS):
            weight.copy_((weight.float() * factor).to(weight.dtype))


def save(pipeline: StableDiffusion3Pipeline, kind: dict, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder, safe_serialization=True)
    if "shard" in kind:
        shutil.rmtree(folder / "transformer")
        pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size=kind["shard"])
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        if "_name_or_path" in content:
            write_json(path, {**content, "_name_or_path": kind["name"]}, indent=2)
    write_json(folder / "generation_config.json", kind["generation"], indent=2)


def draw(pipeline: StableDiffusion3Pipeline, case: dict, defaults: dict) -> dict:
    call = {**defaults, **case["call"]}
    steps = StepRecorder()
    images = pipeline(**call, generator=generator(case["seed"]), callback_on_step_end=steps, output_type="np").images
    prompt = {"prompt": call["prompt"], "prompt_2": None, "prompt_3": None}
    embeds, _, pooled, _ = pipeline.encode_prompt(
        **prompt, max_sequence_length=call["max_sequence_length"], do_classifier_free_guidance=False
    )
    return {
        "seed": case["seed"],
        "call": call,
        "shape": list(steps.latents[-1].shape),
        "steps": [encode_floats(latents) for latents in steps.latents],
        "rgb": encode_bytes(to_pixels(images[0])),
        "prompt_embeds_shape": list(embeds.shape),
        "prompt_embeds": encode_floats(embeds.detach().numpy()),
        "pooled_prompt_embeds": encode_floats(pooled.detach().numpy()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", type=Path, help="folder with tokenizer, tokenizer_2 and tokenizer_3, such as the demo model")
    parser.add_argument("kinds", type=Path, help="file of models and their cases")
    parser.add_argument("models", type=Path, help="folder to write models into")
    parser.add_argument("golden", type=Path, help="folder to write references into")
    arguments = parser.parse_args()

    warnings.filterwarnings("ignore")
    for kind in read_json(arguments.kinds):
        name = kind["name"]
        pipeline = build_pipeline(kind, arguments.tokenizers)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(getattr(torch, kind["dtype"]))
        if "attention_scale" in kind:
            scale_attention(pipeline.transformer, kind["attention_scale"])
        save(pipeline, kind, arguments.models / name)
        pipeline.to(torch.float32)
        cases = [draw(pipeline, case, kind["generation"]) for case in kind["cases"]]
        write_json(arguments.golden / f"{name}.json", {"name": name, "cases": cases}, indent=None)
        print(name, flush=True)


if __name__ == "__main__":
    main()
