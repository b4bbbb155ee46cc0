/** The words for where a model runs. Imports nothing, so that command lines and configurations can name them without loading the runtime. */
export const DEVICES = ['auto', 'cpu', 'cuda', 'tensorrt', 'webgpu', 'coreml', 'dml'] as const
export type Device = (typeof DEVICES)[number]
