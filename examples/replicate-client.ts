/** The `replicate` package, pointed at this server. */
import Replicate from 'replicate'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'
const replicate = new Replicate({ baseUrl: `${url}/v1`, auth: process.env['EASEL_API_KEY'] ?? 'none' })
const [picture] = (await replicate.run('local/tiny-scenes', { input: { prompt: 'a red boat on the sea' } })) as URL[]
console.log(String(picture))
