/** Entry of the api process. */
import { runService } from '@easel/process'
import { readConfig } from './config.ts'
import { serveApi } from './serve.ts'

await runService({
  name: 'api',
  readConfig,
  async start({ config, logger, tracing }) {
    const api = await serveApi({ config, logger, tracing })
    const where = { url: config.publicUrl, host: config.host, port: api.port, defaultModel: config.defaultModel }
    logger.info({ ...where, ms: Math.round(performance.now()) }, 'api listens')
    return api
  },
})
