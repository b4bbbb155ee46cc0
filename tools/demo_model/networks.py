"""The tokenizers, text encoders and transformer of the demo model: Stable Diffusion 3.5's architecture at a thousandth of its size."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

TOKENS = 20
"""Length of every row of token ids."""
TEXT_WIDTH = 128
"""Width of the T5 encoder's embeddings, and of the two CLIP encoders' together."""
CLIP_WIDTH = TEXT_WIDTH // 2
HEADS, HEAD_WIDTH, LAYERS = 3, 64, 6
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_clip_tokenizer(captions: list[str]) -> Tokenizer:
    """A byte-pair tokenizer that splits texts as CLIP's does."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=[BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def train_t5_tokenizer(captions: list[str]) -> Tokenizer:
    """A unigram tokenizer. Trained on so few texts, it lacks some common words and splits them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


class Tokenizers:
    """One for the two CLIP encoders and one for T5."""

    def __init__(self, clip: Tokenizer, t5: Tokenizer):
        self.clip, self.t5 = clip, t5
        self.begin, self.end = clip.token_to_id(BEGIN), clip.token_to_id(END)

    @classmethod
    def train(cls, captions: list[str]) -> "Tokenizers":
        return cls(train_clip_tokenizer(captions), train_t5_tokenizer(captions))

    @classmethod
    def load(cls, folder: Path) -> "Tokenizers":
        return cls(Tokenizer.from_file(str(folder / "clip.json")), Tokenizer.from_file(str(folder / "t5.json")))

    def save(self, folder: Path) -> None:
        self.clip.save(str(folder / "clip.json"))
        self.t5.save(str(folder / "t5.json"))

    def clip_ids(self, text: str) -> list[int]:
        ids = [self.begin, *self.clip.encode(text).ids[: TOKENS - 2], self.end]
        return ids + [self.end] * (TOKENS - len(ids))

    def t5_ids(self, text: str) -> list[int]:
        ids = [*self.t5.encode(text).ids[: TOKENS - 1], self.t5.token_to_id("</s>")]
        return ids + [self.t5.token_to_id("<pad>")] * (TOKENS - len(ids))


class Denoiser(nn.Module):
    """Everything that is trained on latents: the text encoders and the transformer, named as in diffusers' pipeline."""

    def __init__(self, tokenizers: Tokenizers):
        super().__init__()
        self.text_encoder = build_clip_encoder(tokenizers)
        self.text_encoder_2 = build_clip_encoder(tokenizers)
        self.text_encoder_3 = build_t5_encoder(tokenizers)
        self.transformer = build_transformer()

    def encode_texts(self, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (batch, 2 x TOKENS, TEXT_WIDTH) and pooled embeddings (batch, TEXT_WIDTH), concatenated as the pipeline does it."""
        first = self.text_encoder(clip_ids, output_hidden_states=True)
        second = self.text_encoder_2(clip_ids, output_hidden_states=True)
        clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        clip = F.pad(clip, (0, TEXT_WIDTH - clip.shape[-1]))
        embeddings = torch.cat([clip, self.text_encoder_3(t5_ids).last_hidden_state], 1)
        return embeddings, torch.cat([first.text_embeds, second.text_embeds], -1)

    def forward(self, latents: torch.Tensor, sigmas: torch.Tensor, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> torch.Tensor:
        """The velocity from picture to noise. `sigmas`: (batch), the share of noise in each row, from 0 to 1."""
        embeddings, pooled = self.encode_texts(clip_ids, t5_ids)
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=embeddings,
            pooled_projections=pooled,
            timestep=sigmas * 1000,
            return_dict=False,
        )[0]


def build_clip_encoder(tokenizers: Tokenizers) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=tokenizers.clip.get_vocab_size(),
        hidden_size=CLIP_WIDTH,
        intermediate_size=4 * CLIP_WIDTH,
        projection_dim=CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizers.begin,
        eos_token_id=tokenizers.end,
        pad_token_id=tokenizers.end,
        hidden_act="quick_gelu",
    )
    return CLIPTextModelWithProjection(config)


def build_t5_encoder(tokenizers: Tokenizers) -> T5EncoderModel:
    config = T5Config(
        vocab_size=tokenizers.t5.get_vocab_size(),
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return T5EncoderModel(config)


def build_transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=LAYERS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=HEADS * HEAD_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
