import { expect, it } from 'vitest'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'

it.each([
  ['CPU, BFC arena', 'Failed to allocate memory for requested buffer of size 1048576'],
  ['CUDA, BFC arena', 'Available memory of 1024 is smaller than requested bytes of 4096'],
  ['CUDA', 'CUDA failure 2: out of memory ; GPU=0 ; hostname=host'],
  ['CUDA by name', 'cudaErrorMemoryAllocation: CUDA_ERROR_OUT_OF_MEMORY'],
  ['Vulkan on the device', 'vkAllocateMemory failed: VK_ERROR_OUT_OF_DEVICE_MEMORY'],
  ['Vulkan on the host', 'vkAllocateMemory failed: VK_ERROR_OUT_OF_HOST_MEMORY'],
  ['Direct3D', '887A0005 E_OUTOFMEMORY'],
  ['C++', 'std::bad_alloc'],
  ['C++ on Windows', 'bad allocation'],
  ['cuBLAS', 'CUBLAS_STATUS_ALLOC_FAILED'],
  ['cuDNN 9 on the device', 'CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0'],
  ['cuDNN 9 on the host', 'CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ; GPU=0'],
  ['WebGPU', 'Buffer allocation failed'],
  ['Windows', 'Not enough memory resources are available to process this command.'],
])('a shortage of memory is recognised by the message of %s', (_, sentence) => {
  expect(isOutOfMemory(new Error(sentence))).toBe(true)
  expect(isOutOfMemory(new Error('Expected the graph to run', { cause: new Error(sentence) }))).toBe(true)
})

it('no other error is taken for a shortage of memory', () => {
  for (const error of ['Invalid rank for input', 'CUDNN_STATUS_EXECUTION_FAILED', 'allocator is not registered', 'no space left on device'])
    expect(isOutOfMemory(new Error(error))).toBe(false)
  expect(isOutOfMemory('out of memory')).toBe(false)
  expect(isOutOfMemory(new OutOfMemoryError('a step'))).toBe(true)
})
