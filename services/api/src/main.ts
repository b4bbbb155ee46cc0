/** The entry of the api process. */
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
    const rereadKeys = (): void => {
      try {
        api.deps.apiKeys.reload()
        logger.info({ keys: api.deps.apiKeys.keys.length }, 'API keys read again')
      } catch (error) {
        logger.error({ err: error }, 'API keys stay as they are')
      }
    }
    // Without a file a SIGHUP has its usual meaning: the terminal is gone.
    if (config.apiKeysFile !== undefined) process.on('SIGHUP', rereadKeys)
    return api
  },
})
