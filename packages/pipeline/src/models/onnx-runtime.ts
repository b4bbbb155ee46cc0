/**
 * ONNX Runtime itself, loaded once per process when the first graph needs it. Only this module and onnx-session.ts import
 * onnxruntime-node. Runs in the engine process.
 */
import type * as Ort from 'onnxruntime-node'

export type OnnxRuntime = typeof Ort
export type SessionOptions = Ort.InferenceSession.SessionOptions
export type ExecutionProvider = 'cpu' | 'cuda' | 'tensorrt' | 'webgpu' | 'coreml' | 'dml'

let runtime: Promise<OnnxRuntime> | undefined

/**
 * Loads ONNX Runtime once. Its binding cannot read a Float16Array, which Node 24 has: every float16 feed then fails with "not enough
 * space". Its JavaScript side decides once, at the first tensor, whether to use that class, so the class is hidden for that moment.
 */
export function loadRuntime(): Promise<OnnxRuntime> {
  runtime ??= (async () => {
    const ort = await import('onnxruntime-node')
    // Its errors are also thrown; on stderr they would only alarm people whose worker lets 'auto' try the providers.
    ort.env.logLevel = 'fatal'
    const hidden = Object.getOwnPropertyDescriptor(globalThis, 'Float16Array')
    try {
      if (hidden !== undefined) delete (globalThis as { Float16Array?: unknown }).Float16Array
      const probe = new ort.Tensor('float16', new Uint16Array([0x3c00]), [1])
      assertFloat16Bits(probe.data)
    } finally {
      if (hidden !== undefined) Object.defineProperty(globalThis, 'Float16Array', hidden)
    }
    assertFloat16Bits(new ort.Tensor('float16', new Uint16Array([0x3c00]), [1]).data)
    return ort
  })()
  return runtime
}

function assertFloat16Bits(data: unknown): asserts data is Uint16Array {
  if (data instanceof Uint16Array && data[0] === 0x3c00) return
  throw new Error(
    `Expected float16 tensors of ONNX Runtime to hold Uint16Array bits, got ${Object.prototype.toString.call(data)}. ` +
      'Something in this process made a tensor of onnxruntime before the pipeline was loaded; load the pipeline first.',
  )
}

/** The version of the installed ONNX Runtime. */
export async function runtimeVersion(): Promise<string> {
  const { versions } = (await loadRuntime()).env
  return versions.node ?? versions.common
}

/** The providers that the installed ONNX Runtime was built with, whether or not the hardware and its libraries are there. */
export async function listBuiltProviders(): Promise<string[]> {
  return (await loadRuntime()).listSupportedBackends().map((backend) => backend.name)
}
