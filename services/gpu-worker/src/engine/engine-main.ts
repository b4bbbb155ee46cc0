/**
 * The entry of the engine process, which the supervisor forks. A terminal's Ctrl-C and a container's stop reach the whole process group, but
 * the parent decides whether to finish or hand over running pictures. So signals are ignored here, before anything slow is loaded. The
 * process ends on `stop` or when the parent is gone.
 */
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
process.on('disconnect', () => process.exit(0))

const { runEngineHost } = await import('./engine-host.ts')
await runEngineHost(process)
