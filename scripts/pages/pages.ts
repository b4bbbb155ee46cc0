/** Owns the list of pages whose blocks are run: by which suite, and what their commands must have written. Runs in tests. */

export interface FollowedPage {
  /** What the output must contain. */
  says: readonly RegExp[]
  /** Files that must exist afterwards, in the clone or in the home folder (`~/`). */
  leaves?: readonly string[]
  /** Languages whose blocks this suite runs. Default: all. */
  languages?: readonly string[]
  /** After a line that contains the first text, the terminals must show the second one before the reader continues. Default: none. */
  shows?: Readonly<Record<string, string>>
  /** Shell commands that prepare what the page presupposes, such as a model of one's own or a job to repeat. */
  given?: string
}

const submit = `curl -sf localhost:8500/v1/jobs -H 'content-type: application/json' -H 'prefer: wait=60'`
const printId = `grep -o '"id":"[^"]*' | head -1 | cut -d '"' -f 4`

/** Followed on a service that is already running, in `npm test`. */
export const servicePages: Readonly<Record<string, FollowedPage>> = {
  'docs/client.md': {
    languages: ['ts'],
    says: [/step \d+ of 20\n/, /^succeeded$/m, /^width \[/m],
    leaves: ['boat.png'],
  },
  'docs/dialects.md': {
    languages: ['ts'],
    says: [/-0\.png\n[^]*-0\.png\n[^]*-0\.png\n/],
  },
  'docs/http-api.md': {
    // A worker learns from the model how to draw previews when they are first asked for, and a short job may end before that.
    given: `
      body='{"prompt": "a cat", "num_inference_steps": 40, "preview_every": 5}'
      until curl -sf localhost:8500/v1/jobs/$(${submit} -d "$body" | ${printId})/events | grep 'event: preview' > ~/preview; do :; done`,
    says: [/"status":"canceled"/, /"default":true/],
    leaves: ['cat.png'],
  },
  'docs/reproducibility.md': {
    given: `ID=$(${submit} -d '{"prompt": "a red boat on the sea"}' | ${printId})`,
    says: [/"identical":true/],
  },
  'docs/watch.md': {
    given: 'ADMIN_KEY=an-operators-key',
    says: [/"workers":/],
  },
  'examples/README.md': {
    says: [/succeeded, step 20 of 20/],
  },
}

/** Followed on a bare machine with Node 20, in `npm run test:packages`: these pages start the service themselves, install, or pull. */
export const commandPages: Readonly<Record<string, FollowedPage>> = {
  'README.md': {
    given: 'mkdir ~/my-project && npm init --yes --prefix ~/my-project',
    says: [/Easel is ready/, /"status":"succeeded"/, /-0\.png\n[^]*-0\.png\n[^]*128 128 49152 42\n/],
    leaves: ['easel.png', 'boat.png', 'dist/easel-client-0.1.0.tgz'],
  },
  'docs/client.md': {
    languages: ['sh'],
    given: 'mkdir ~/my-project && cd ~/my-project && npm init --yes',
    says: [/added 1 package/],
  },
  'docs/keys-and-webhooks.md': {
    says: [/("status":"queued"[^]*){3}/, /(job\.completed [0-9a-f-]{36} succeeded[^]*){2}/],
    shows: { 'kill -HUP': 'API keys read again', '"webhook":': 'job.completed' },
  },
  'docs/models.md': {
    given: 'cp -r models/tiny-scenes ~/my-scenes',
    says: [/"model":"my-scenes"/],
  },
  'docs/scale.md': {
    says: [/"workers":\{"tiny-scenes":3\}/, /("worker":"[^"]+"\n"steps":[1-9]\d*\n[^]*){3}/],
  },
  'docs/upgrade-and-back-up.md': {
    given: `npm start\n${submit} -d '{"prompt": "a red boat on the sea"}'`,
    says: [/aof_rewrite_in_progress:0/, /"jobs":\[\{"id"/],
  },
}

/** Packed, installed in an empty project and run there by packages.test.ts. */
export const packagePages = ['packages/client/README.md', 'packages/contract/README.md', 'packages/pipeline/README.md'] as const
