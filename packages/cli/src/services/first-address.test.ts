import { expect, test } from 'vitest'
import { chooseFirstAddress } from './first-address.ts'

test.each([
  [{}, { HOST: '127.0.0.1', CORS_ORIGINS: 'http://localhost:8500,http://127.0.0.1:8500' }, 'http://localhost:8500', true],
  [
    { PORT: '9000', HOST: ' ' },
    { HOST: '127.0.0.1', CORS_ORIGINS: 'http://localhost:9000,http://127.0.0.1:9000' },
    'http://localhost:9000',
    true,
  ],
  [{ CORS_ORIGINS: 'https://app.example' }, { HOST: '127.0.0.1' }, 'http://localhost:8500', true],
  [{ API_KEYS: 'a-secret-key' }, {}, 'http://localhost:8500', false],
  [{ API_KEYS_FILE: '/run/keys' }, {}, 'http://localhost:8500', false],
  [{ HOST: '0.0.0.0' }, {}, 'http://localhost:8500', false],
  [{ HOST: '10.1.2.3' }, {}, 'http://10.1.2.3:8500', false],
  [{ HOST: '::1' }, {}, 'http://[::1]:8500', false],
])('%j listens where it was told, else on this machine only', (variables, env, url, isLocalOnly) => {
  expect(chooseFirstAddress(variables)).toEqual({ env, url, isLocalOnly })
})
