/** The real engine process, except that the word `crash` in a prompt ends it like a native fault, and the word `hang` stops it. */
import type { ToEngine } from '../src/engine/protocol.ts'

process.on('message', (message: ToEngine) => {
  if (message.type !== 'generate') return
  if (message.params.prompt.includes('crash')) process.kill(process.pid, 'SIGSEGV')
  if (message.params.prompt.includes('hang')) process.kill(process.pid, 'SIGSTOP')
})
await import('../src/engine/engine-main.ts')
