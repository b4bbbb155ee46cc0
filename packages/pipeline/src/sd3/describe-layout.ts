/**
 * Recognises, by the names of its files, what a folder holds if it is not a model for this pipeline, so that the error can say what it is
 * instead of what is missing. Pure; knows nothing about where the files lie.
 */

/** A clause about files for another runtime or in another format; undefined when there are none. `paths` have slashes. */
export function describeForeignFiles(paths: readonly string[]): string | undefined {
  const some = (pattern: RegExp): boolean => paths.some((path) => pattern.test(path))
  if (some(/\.mxr$/)) return 'it holds graphs compiled for AMD GPUs (.mxr), which nothing else runs'
  if (some(/\.(plan|engine|trt)$/) || some(/^ONNX\/.*transformer\//))
    return 'it is made for TensorRT, whose engines and graphs (bfloat16, float8) ONNX Runtime in Node does not run'
  if (some(/\.gguf$/)) return 'it holds GGUF files, which Easel does not read'
  if (some(/\.mlpackage\/|\.mlmodelc?(\/|$)/)) return 'it is made for Core ML, whose models ONNX Runtime does not run'
  if (some(/\.xml$/) && some(/\.bin$/)) return 'it is made for OpenVINO, whose graphs ONNX Runtime does not run'
  return undefined
}

/** Says why a folder or repository without model_index.json is not a model for Easel. */
export function describeUnknownLayout(paths: readonly string[]): string {
  const foreign = describeForeignFiles(paths)
  if (foreign !== undefined) return foreign
  if (paths.some((path) => /^[^/]+\.safetensors$/.test(path)))
    return 'it holds single files: download one and give its path, or take the repository in diffusers layout that its page names'
  if (paths.some((path) => path.endsWith('.onnx'))) return 'it holds ONNX graphs, but not in the folders that optimum writes'
  return 'it has no model_index.json, which every model in diffusers layout has'
}
