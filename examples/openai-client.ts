/** The `openai` package, pointed at this server. */
import OpenAI from 'openai'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env['EASEL_API_KEY'] ?? 'none' })
const { data } = await openai.images.generate({ prompt: 'a red boat on the sea', response_format: 'url' })
console.log(data?.[0]?.url)
