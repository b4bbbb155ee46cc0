/** The real engine process, except that it starts to load its model only after six seconds, during which it works a little now and then. */
import { setTimeout as sleep } from 'node:timers/promises'

for (let round = 0; round < 6; round++) {
  await sleep(1000)
  const { user } = process.cpuUsage()
  while (process.cpuUsage().user - user < 60_000);
}
await import('../src/engine/engine-main.ts')
