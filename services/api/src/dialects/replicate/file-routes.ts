/** Replicate's files: its client first uploads files given as inputs, and then sends their URLs. Each becomes an upload like any other. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError } from '@easel/contract'
import type { UploadRecord } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../../app-deps.ts'
import { createUpload } from '../../inputs/create-upload.ts'
import { deleteUpload } from '../../inputs/delete-upload.ts'
import type { UploadNeeds } from '../../inputs/create-upload.ts'
import { describeForm } from '../../inputs/describe-picture-body.ts'
import { findUpload } from '../../inputs/find-upload.ts'
import { withPlace } from '../../inputs/picture-places.ts'
import { isForm, readForm } from '../../inputs/read-picture-body.ts'
import { refuseInvalid } from '../../middleware/problem.ts'
import { refuseFields } from '../../problems/refuse-fields.ts'
import { toPublicUrl } from '../../public-url.ts'
import { describeErrors } from '../describe-routes.ts'
import { replicateErrorSchema } from './errors.ts'

const fileSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    content_type: z.string(),
    size: z.int(),
    etag: z.string(),
    checksums: z.object({ sha256: z.string() }),
    metadata: z.object({}),
    expires_at: z.string().nullable(),
    urls: z.object({ get: z.string().describe('The URL for inputs; it serves the picture to its owner.') }),
  })
  .meta({ id: 'ReplicateFile' })
const errorContent = { 'application/json': { schema: replicateErrorSchema } }
const content = { 'application/json': { schema: fileSchema } }
const tags = ['Replicate']
const { refusals, absences } = describeErrors(replicateErrorSchema)
const field = 'content'
const params = z.object({ id: z.string().max(100) })

export function replicateFileRoutes(deps: UploadNeeds & Pick<AppDeps, 'apiKeys'>) {
  const { config } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const create = createRoute({
    method: 'post',
    path: '/v1/files',
    tags,
    summary: 'Send a file (Replicate)',
    description: 'A form with the file as `content`.',
    request: { body: { required: true, content: describeForm(z.object({ content: z.file() }), { content: 'boat.png' }) } },
    responses: {
      201: { description: 'The file is kept as long as results are.', content },
      415: { description: 'The body is not a form.', content: errorContent },
      ...refusals,
    },
  })
  const withCreate = app.openapi(create, async (c) => {
    if (!isForm(c.req)) throw new ProblemError('unsupported_media_type', 'Expected multipart/form-data.')
    const { owner } = c.var
    const upload = await withPlace(owner, async () => {
      const form = await readForm(c.req, { maxBytes: config.maxInputBytes, files: 1, field })
      const files = form.files.filter(({ name }) => name === field)
      const [file] = files
      if (file === undefined || files.length > 1) throw refuseFields([{ field, expected: 'one file', received: String(files.length) }])
      return await createUpload(deps, file.bytes, { owner, field })
    })
    return c.json(toFile(upload, upload.expires_at, toPublicUrl(config)), 201)
  })

  const get = createRoute({
    method: 'get',
    path: '/v1/files/{id}',
    tags,
    summary: 'Read the metadata of a file (Replicate)',
    request: { params },
    responses: { 200: { description: 'The file, without its bytes.', content }, ...absences },
  })
  const withGet = withCreate.openapi(get, async (c) => {
    const upload = await findUpload(deps, c.req.valid('param').id, c.var.owner)
    if (upload === undefined) throw new ProblemError('not_found', 'There is no such file.')
    const expiresAt = upload.expiresAt === undefined ? null : new Date(upload.expiresAt).toISOString()
    return c.json(toFile(upload, expiresAt, toPublicUrl(config)), 200)
  })

  const remove = createRoute({
    method: 'delete',
    path: '/v1/files/{id}',
    tags,
    summary: 'Delete a file (Replicate)',
    request: { params },
    responses: { 204: { description: 'The file has been deleted.' }, ...absences },
  })
  return withGet.openapi(remove, async (c) => {
    if (await deleteUpload(deps, c.req.valid('param').id, c.var.owner)) return c.body(null, 204)
    throw new ProblemError('not_found', 'There is no such file.')
  })
}

function toFile(
  { id, bytes, content_type, sha256 }: Omit<UploadRecord, 'owner' | 'expiresAt'>,
  expires_at: string | null,
  publicUrl: string,
): z.infer<typeof fileSchema> {
  const urls = { get: `${publicUrl}/v1/uploads/${id}` }
  return { id, name: id, content_type, size: bytes, etag: sha256, checksums: { sha256 }, metadata: {}, expires_at, urls }
}
