/**
 * Entry of the engine process, forked by the supervisor. A terminal's Ctrl-C and a container's stop reach the whole process group, but
 * running pictures are the parent's to drain or hand over: signals are ignored here before anything slow is loaded. The process ends on
 * `stop` or when the parent is gone.
 */
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
process.on('disconnect', () => process.exit(0))

const { runEngineHost } = await import('./engine-host.ts')
await runEngineHost(process)
