/** Writes a log line of totals over all replicas and workers every METRICS_LOG_INTERVAL seconds. */
import type { AppDeps } from './app-deps.ts'

/** Returns a function that stops it. With an interval of 0 nothing is written. */
export function logTotals({ config, logger, outage, store }: Pick<AppDeps, 'config' | 'logger' | 'outage' | 'store'>): () => void {
  if (config.metricsLogIntervalMs === 0) return () => {}
  const write = async (): Promise<void> => {
    try {
      const [counters, active, queued] = await Promise.all([store.counters(), store.count('', 'running'), store.count('', 'queued')])
      logger.info({ totalRequests: counters['created'] ?? 0, activeInferences: active, queueDepth: queued }, 'totals')
    } catch (error) {
      outage.report(error, 'totals cannot be read')
    }
  }
  const timer = setInterval(() => void write(), config.metricsLogIntervalMs)
  return () => clearInterval(timer)
}
