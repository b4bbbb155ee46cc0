import { expect, test } from 'vitest'
import { describeUnknownLayout } from './describe-layout.ts'

test.each([
  [['unet/model.mxr'], /AMD/],
  [['ONNX/transformer/bf16/model.onnx'], /TensorRT/],
  [['engine.plan'], /TensorRT/],
  [['transformer/rank0.engine', 'config.json'], /TensorRT/],
  [['sd3.safetensors'], /single files/],
  [['onnx/model.onnx'], /not in the folders that optimum writes/],
  [['model.gguf'], /GGUF/],
  [['transformer/openvino_model.xml', 'transformer/openvino_model.bin'], /OpenVINO/],
  [['Unet.mlmodelc/model.mil'], /Core ML/],
  [['README.md'], /no model_index\.json/],
])('a layout that is no model for Easel is described by what it is (%j)', (paths, says) => {
  expect(describeUnknownLayout(paths)).toMatch(says)
})
