import { afterAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startS3Server } from '@easel/storage/test/s3-server'
import { startTestApi } from './start-api.ts'

const server = await startS3Server()

describe('with pictures in S3', () => {
  if ('skipped' in server) {
    test('needs a server', ({ skip }) => {
      skip(server.skipped)
      expect.unreachable()
    })
    return
  }
  afterAll(() => server.stop())

  test('the stable URL leads to a freshly signed one, and the job has one too', async () => {
    const { endpoint, accessKeyId, secretAccessKey } = server
    const env = {
      STORAGE: 's3',
      S3_ENDPOINT: endpoint,
      S3_BUCKET: 'easel-api',
      S3_ACCESS_KEY_ID: accessKeyId,
      S3_SECRET_ACCESS_KEY: secretAccessKey,
    }
    const api = await startTestApi({ env })
    await api.deps.storage.check()
    const { id } = await api.submit()
    await api.worker.succeed(id)
    const { output } = (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
    const [image] = output?.images ?? []
    expect(image?.url).toBe(`${api.url}/images/${id}-0.png`)
    expect(await (await fetch(image?.direct_url ?? '')).text()).toBe(`picture 0 of ${id}`)
    expect(Date.parse(image?.direct_url_expires_at ?? '')).toBeGreaterThan(Date.now())

    const redirect = await fetch(image?.url ?? '', { redirect: 'manual' })
    expect(redirect.status).toBe(302)
    expect(redirect.headers.get('cache-control')).toMatch(/^private, max-age=\d+$/)
    expect(new URL(redirect.headers.get('location') ?? '').searchParams.has('X-Amz-Signature')).toBe(true)
    expect(await (await fetch(image?.url ?? '')).text()).toBe(`picture 0 of ${id}`)

    const small = await fetch(image?.thumbnail_url ?? '', { redirect: 'manual' })
    expect([small.status, new URL(small.headers.get('location') ?? '').pathname]).toEqual([302, `/easel-api/images/${id}-0.thumb.webp`])
    const followed = await fetch(image?.thumbnail_url ?? '')
    expect([followed.headers.get('content-type'), await followed.text()]).toEqual(['image/webp', `thumbnail 0 of ${id}`])

    const { id: deleted } = await api.submit()
    await api.worker.succeed(deleted)
    expect((await api.get(`/v1/jobs/${deleted}`, { method: 'DELETE' })).status).toBe(204)
    const left = await Array.fromAsync(api.deps.storage.list('images/'))
    expect(left.map(({ key }) => key)).toEqual([`images/${id}-0.png`, `images/${id}-0.thumb.webp`])

    expect((await api.get(`/images/${id}-1.png`)).status).toBe(404)
    await server.kill()
    const lost = await api.get(`/images/${id}-0.png`)
    expect([lost.status, lost.headers.get('content-type')]).toEqual([503, 'application/problem+json'])
    expect(Number(lost.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await (await api.get('/readyz')).json()) as { status: string }).toMatchObject({ status: 'ready' })

    // A route that reads the picture for its answer says the same in its own words.
    const stored = (await api.worker.store.get(id))?.output
    const succeed = async (made: string): Promise<void> => {
      await api.worker.store.start(made, 'w')
      await api.worker.store.end(made, { status: 'succeeded', output: stored })
    }
    const ask = { prompt: 'a', response_format: 'b64_json' }
    const answer = await api.postMeanwhile('/v1/images/generations', ask, succeed)
    expect([answer.status, await answer.json()]).toMatchObject([503, { error: { code: 'storage_unavailable' } }])
    const stream = await (await api.postMeanwhile('/v1/images/generations', { ...ask, stream: true }, succeed)).text()
    expect(stream).toMatch(/event: error\ndata: .*"code":"storage_unavailable"/)
    await api.close()
  })
})
