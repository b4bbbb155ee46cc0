/** The names of devices on which a model can run. Imports nothing, so that command lines and configurations can use them without the runtime. */
export const DEVICES = ['auto', 'cpu', 'cuda', 'tensorrt', 'webgpu', 'coreml', 'dml'] as const
export type Device = (typeof DEVICES)[number]
