/** The real engine, which begins to load its model only after six seconds in which it has done a little, now and then. */
import { setTimeout as sleep } from 'node:timers/promises'

for (let round = 0; round < 6; round++) {
  await sleep(1000)
  const { user } = process.cpuUsage()
  while (process.cpuUsage().user - user < 60_000);
}
await import('../src/engine/engine-main.ts')
