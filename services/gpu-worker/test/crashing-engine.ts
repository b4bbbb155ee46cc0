/** The real engine process, except that a prompt with the word `crash` ends it as a native fault would. */
import type { ToEngine } from '../src/engine/protocol.ts'

process.on('message', (message: ToEngine) => {
  if (message.type === 'generate' && message.params.prompt.includes('crash')) process.kill(process.pid, 'SIGSEGV')
})
await import('../src/engine/engine-process.ts')
