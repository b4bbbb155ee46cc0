import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { sincosPositions } from './sincos-positions.ts'

// The hashes are those of rows and columns of torch's tables: diffusers' get_2d_sincos_pos_embed(2 * width, length, base_size=...).
it.each([
  ['Stable Diffusion 3', 192, 768, 64, '9004aa0e12f24801ce5c30ceada1fb24ca5ded6f51aaa96342961acf68919d53'],
  ['3.5 medium', 384, 768, 64, 'a6e764c7db8dbf1995e65a070ae09b7d6873ee3b1eaffbf9735190858163cfb1'],
  ['3.5 large', 192, 1216, 64, '07724d81ad4958f770a9dd7e81ff6f17f6fc7632895cfd71f1440fdcf89f7740'],
  ['a size that divides nothing evenly', 50, 22, 7, '9ed9d11aba7622aab88c6177dcade351f911e05d64f7df923d03bcfbac653604'],
])('the positions of %s are those of torch, bit for bit', (_, length, width, baseSize, sha256) => {
  const values = sincosPositions(length, width, baseSize)
  expect(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')).toBe(sha256)
})
