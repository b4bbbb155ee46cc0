/**
 * What a picture says about how it was made: text in the format that image tools read (AUTOMATIC1111's), and XMP that marks it as made by a
 * trained model. Contains nothing that differs between two runs of the same input: no time, job or host. Pure; knows nothing about files.
 */
import { jobInputSchema, promptFields } from '@easel/contract'
import type { JobInput, Provenance } from '@easel/contract'
import { imageSeed } from '@easel/pipeline/image-seeds'

export interface ImageDescription {
  /** The prompt, the negative prompt and, in the last line, the settings. */
  parameters: string
  /** An XMP packet. With `text` it also contains the text, for formats that have no other place for it. */
  toXmp: (text?: string) => string
}

/** The description of image `index` of a job; undefined when pictures should contain none. */
export function describeImage(input: JobInput, index: number, made: Provenance): ImageDescription | undefined {
  const { metadata } = made.encoder
  if (metadata === 'none') return undefined
  return { parameters: toParameters(input, index, made, metadata === 'full'), toXmp }
}

/** The names that image tools use for schedulers. */
const samplers: Readonly<Record<string, string>> = { FlowMatchEulerDiscreteScheduler: 'Euler' }

/** The fields that are written in their own way or not at all. All others are written under their own names. */
const placed: readonly (keyof JobInput)[] = [
  ...promptFields,
  'model',
  'num_inference_steps',
  'guidance_scale',
  'seed',
  'width',
  'height',
  'clip_skip',
  'strength',
  'image',
  'mask',
  'fit',
  'max_sequence_length',
  'guidance_interval',
  'skip_guidance_layers',
  'skip_layer_guidance_scale',
  'skip_layer_guidance_start',
  'skip_layer_guidance_stop',
  'loras',
  'num_images_per_prompt',
  'output_format',
  'output_quality',
]
const otherFields = (Object.keys(jobInputSchema.shape) as (keyof JobInput)[]).filter((field) => !placed.includes(field))

type Setting = [name: string, value: string | number | undefined]

function toParameters(input: JobInput, index: number, { model, scheduler }: Provenance, prompts: boolean): string {
  const settings: Setting[] = [
    ['Steps', input.num_inference_steps],
    ['Sampler', samplers[scheduler.class] ?? scheduler.class],
    ['CFG scale', input.guidance_scale],
    ['Seed', imageSeed(input.seed, index)],
    ['Size', `${input.width}x${input.height}`],
    ['Model hash', model.content_hash.slice(0, 10)],
    ['Model', model.id],
    // In that format 1 is the last layer.
    ['Clip skip', input.clip_skip === undefined || input.clip_skip === 0 ? undefined : input.clip_skip + 1],
    ['Denoising strength', input.strength],
    ['Init image hash', input.image?.sha256.slice(0, 10)],
    ['Mask hash', input.mask?.sha256.slice(0, 10)],
    ['Fit', input.fit],
    ['Max sequence length', input.max_sequence_length],
    ['Guidance interval', input.guidance_interval?.join(', ')],
    ['Skip guidance layers', input.skip_guidance_layers?.join(', ')],
    ['Skip layer guidance scale', input.skip_layer_guidance_scale],
    ['Skip layer guidance start', input.skip_layer_guidance_start],
    ['Skip layer guidance stop', input.skip_layer_guidance_stop],
    ['LoRAs', input.loras?.map(({ id, scale = 1 }) => `${id} ${scale}`).join(', ')],
    ...otherFields.map((field): Setting => [toName(field), toText(input[field])]),
  ]
  if (prompts) {
    settings.push(['Prompt 2', input.prompt_2], ['Prompt 3', input.prompt_3])
    settings.push(['Negative prompt 2', input.negative_prompt_2], ['Negative prompt 3', input.negative_prompt_3])
  }
  const line = settings.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${quote(String(value))}`])).join(', ')
  if (!prompts) return line
  return [input.prompt, ...(input.negative_prompt === '' ? [] : [`Negative prompt: ${input.negative_prompt}`]), line].join('\n')
}

/** For example `Max sequence length` for `max_sequence_length`. */
function toName(field: string): string {
  return field.charAt(0).toUpperCase() + field.slice(1).replaceAll('_', ' ')
}

function toText(value: unknown): string | undefined {
  if (Array.isArray(value)) return value.join(', ')
  return value === undefined || typeof value === 'string' ? value : JSON.stringify(value)
}

/** A value that could be read as several is written as a JSON string. */
function quote(value: string): string {
  return /[,:\n"]/.test(value) || value.trim() !== value ? JSON.stringify(value) : value
}

const digitalSourceType = 'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'

function toXmp(text?: string): string {
  const comment =
    text === undefined
      ? ''
      : `\n   <exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">${escapeXml(text)}</rdf:li></rdf:Alt></exif:UserComment>`
  return `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/">
   <Iptc4xmpExt:DigitalSourceType>${digitalSourceType}</Iptc4xmpExt:DigitalSourceType>
   <xmp:CreatorTool>Easel</xmp:CreatorTool>${comment}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`
}

function escapeXml(text: string): string {
  return (
    text
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('\r', '&#13;')
      // XML cannot represent these.
      // oxlint-disable-next-line no-control-regex
      .replaceAll(/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, '\ufffd')
  )
}
