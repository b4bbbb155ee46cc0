/** POST /v1/uploads, GET and DELETE /v1/uploads/{id}: pictures that are sent ahead of the jobs that begin with them. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError, inputKey, uploadSchema } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { createUpload } from '../inputs/create-upload.ts'
import { deleteUpload } from '../inputs/delete-upload.ts'
import type { UploadNeeds } from '../inputs/create-upload.ts'
import { describeForm, describePicture } from '../inputs/describe-picture-body.ts'
import { findUpload } from '../inputs/find-upload.ts'
import { withPlace } from '../inputs/picture-places.ts'
import { isForm, readFile, readForm } from '../inputs/read-picture-body.ts'
import { describeProblems, refuseInvalid } from '../middleware/problem.ts'
import { refuseFields } from '../problems/refuse-fields.ts'

const binary = { schema: z.string().meta({ format: 'binary' }) }
/** The name of the file in errors. */
const field = 'file'
const params = z.object({ id: z.string().max(100).meta({ description: 'Id of the upload.' }) })

// oxlint-disable-next-line max-lines-per-function -- one route after another, each of them short.
export function uploadRoutes(deps: UploadNeeds & Pick<AppDeps, 'apiKeys'>) {
  const { config, storage } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const create = createRoute({
    method: 'post',
    path: '/v1/uploads',
    summary: 'Upload a picture for jobs to begin with',
    description:
      'The picture is the body, or the only file of a form. Jobs use it as `upload:ID` in `image` or `mask`. Only its owner can use it. It is ' +
      'kept as long as results are, and as long as any job that uses it.',
    request: {
      body: { required: true, content: { ...describePicture(), ...describeForm(z.object({ file: z.file() }), { file: 'boat.png' }) } },
    },
    responses: {
      201: { description: 'The picture has been stored.', content: { 'application/json': { schema: uploadSchema } } },
      ...describeProblems(
        'unauthorized',
        'rate_limited',
        'malformed_body',
        'image_too_large',
        'invalid_request',
        'invalid_image',
        'queue_unavailable',
        'storage_unavailable',
      ),
    },
  })
  const withCreate = app.openapi(create, async (c) => {
    const { owner } = c.var
    const upload = await withPlace(owner, async () => {
      const limits = { maxBytes: config.maxInputBytes, field }
      if (!isForm(c.req)) return await createUpload(deps, await readFile(c.req, limits), { owner, field })
      const { files } = await readForm(c.req, { ...limits, files: 1 })
      const [file] = files
      if (file === undefined || files.length > 1) {
        throw refuseFields([{ field, expected: 'a form with one file', received: `one with ${files.length}` }])
      }
      return await createUpload(deps, file.bytes, { owner, field })
    })
    c.header('Location', `/v1/uploads/${upload.id}`)
    c.var.logger.info({ uploadId: upload.id, bytes: upload.bytes }, 'picture uploaded')
    return c.json(upload, 201)
  })

  const get = createRoute({
    method: 'get',
    path: '/v1/uploads/{id}',
    summary: 'Fetch an uploaded picture',
    request: { params },
    responses: {
      200: { description: 'The picture as it was sent.', content: { 'image/*': binary } },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'queue_unavailable', 'storage_unavailable'),
    },
  })
  const withGet = withCreate.openapi(get, async (c) => {
    const upload = await findUpload(deps, c.req.valid('param').id, c.var.owner)
    const object = upload === undefined ? undefined : await storage.open(inputKey(upload.sha256))
    if (upload === undefined || object === undefined) throw new ProblemError('not_found', 'There is no such upload.')
    return c.body(object.body, 200, {
      'Content-Type': upload.content_type,
      'Content-Length': String(object.size),
      'X-Content-Type-Options': 'nosniff',
      'Content-Disposition': 'inline',
      'Cache-Control': 'private, no-store',
    })
  })

  const remove = createRoute({
    method: 'delete',
    path: '/v1/uploads/{id}',
    summary: 'Delete an uploaded picture',
    description:
      'New jobs can no longer use it. Jobs that were made with it keep the picture until they are deleted; if there are none, its bytes are ' +
      'deleted at once.',
    request: { params },
    responses: {
      204: { description: 'The upload has been deleted.' },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'queue_unavailable'),
    },
  })
  return withGet.openapi(remove, async (c) => {
    const { id } = c.req.valid('param')
    if (!(await deleteUpload(deps, id, c.var.owner))) throw new ProblemError('not_found', 'There is no such upload.')
    c.var.logger.info({ uploadId: id }, 'upload deleted')
    return c.body(null, 204)
  })
}
