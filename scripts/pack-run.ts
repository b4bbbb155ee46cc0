/** `npm run pack`: builds the packages that can be installed elsewhere and says where their tarballs are. Runs on Node 24, started by pack.js. */
import { packPackages } from './packages/pack-packages.ts'

for (const { name, tarball, bytes } of await packPackages()) console.log(`${name}: ${tarball} (${Math.ceil(bytes / 1000)} kB)`)
