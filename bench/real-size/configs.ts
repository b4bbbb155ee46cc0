/**
 * The configurations after which random models are made: every file except weights and tokenizers, by its path in the model's folder. The numbers
 * are those of the published models.
 */
export type ModelKind = 'sd35-medium' | 'sd35-medium-transformer' | 'sd35-large-transformer' | 'middle-transformer'

const transformer = {
  _class_name: 'SD3Transformer2DModel',
  sample_size: 128,
  patch_size: 2,
  in_channels: 16,
  out_channels: 16,
  attention_head_dim: 64,
  joint_attention_dim: 4096,
  pooled_projection_dim: 2048,
  qk_norm: 'rms_norm',
  dual_attention_layers: [] as number[],
}

const clip = {
  architectures: ['CLIPTextModelWithProjection'],
  model_type: 'clip_text_model',
  vocab_size: 49_408,
  max_position_embeddings: 77,
  layer_norm_eps: 1e-5,
  // The value in tiny-scenes' tokenizers.
  eos_token_id: 1,
}

const medium = {
  'model_index.json': {
    _class_name: 'StableDiffusion3Pipeline',
    scheduler: ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
    text_encoder: ['transformers', 'CLIPTextModelWithProjection'],
    text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
    text_encoder_3: ['transformers', 'T5EncoderModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    tokenizer_2: ['transformers', 'CLIPTokenizer'],
    tokenizer_3: ['transformers', 'T5TokenizerFast'],
    transformer: ['diffusers', 'SD3Transformer2DModel'],
    vae: ['diffusers', 'AutoencoderKL'],
  },
  'scheduler/scheduler_config.json': { _class_name: 'FlowMatchEulerDiscreteScheduler', num_train_timesteps: 1000, shift: 3 },
  'transformer/config.json': {
    ...transformer,
    num_layers: 24,
    num_attention_heads: 24,
    caption_projection_dim: 1536,
    pos_embed_max_size: 384,
    dual_attention_layers: Array.from({ length: 13 }, (_, layer) => layer),
  },
  'text_encoder/config.json': {
    ...clip,
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    projection_dim: 768,
    hidden_act: 'quick_gelu',
  },
  'text_encoder_2/config.json': {
    ...clip,
    hidden_size: 1280,
    intermediate_size: 5120,
    num_hidden_layers: 32,
    num_attention_heads: 20,
    projection_dim: 1280,
    hidden_act: 'gelu',
  },
  'text_encoder_3/config.json': {
    architectures: ['T5EncoderModel'],
    model_type: 't5',
    vocab_size: 32_128,
    d_model: 4096,
    d_kv: 64,
    d_ff: 10_240,
    num_layers: 24,
    num_heads: 64,
    feed_forward_proj: 'gated-gelu',
    layer_norm_epsilon: 1e-6,
    relative_attention_num_buckets: 32,
    relative_attention_max_distance: 128,
  },
  'vae/config.json': {
    _class_name: 'AutoencoderKL',
    in_channels: 3,
    out_channels: 3,
    latent_channels: 16,
    block_out_channels: [128, 256, 512, 512],
    layers_per_block: 2,
    norm_num_groups: 32,
    act_fn: 'silu',
    down_block_types: Array<string>(4).fill('DownEncoderBlock2D'),
    up_block_types: Array<string>(4).fill('UpDecoderBlock2D'),
    mid_block_add_attention: true,
    use_quant_conv: false,
    use_post_quant_conv: false,
    force_upcast: true,
    sample_size: 1024,
    scaling_factor: 1.5305,
    shift_factor: 0.0609,
  },
}

export const configs: Readonly<Record<ModelKind, Readonly<Record<string, unknown>>>> = {
  'sd35-medium': medium,
  'sd35-medium-transformer': { 'transformer/config.json': medium['transformer/config.json'] },
  'sd35-large-transformer': {
    'transformer/config.json': {
      ...transformer,
      num_layers: 38,
      num_attention_heads: 38,
      caption_projection_dim: 2432,
      pos_embed_max_size: 192,
    },
  },
  'middle-transformer': {
    'transformer/config.json': {
      ...transformer,
      num_layers: 12,
      num_attention_heads: 16,
      caption_projection_dim: 1024,
      pos_embed_max_size: 96,
    },
  },
}
