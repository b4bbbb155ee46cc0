/** Does what the test client of diffusers' server-async example does, on the same routes: requests pictures, waits, and fetches each of them. */
const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'

const response = await fetch(`${url}/api/diffusers/inference`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ prompt: 'a big green cat at night', num_inference_steps: 20, num_images_per_prompt: 2 }),
})
if (!response.ok) throw new Error(`Expected pictures, got ${response.status}: ${await response.text()}`)
const { response: urls } = (await response.json()) as { response: string[] }
for (const picture of urls) {
  const bytes = await (await fetch(picture)).bytes()
  console.log(`${picture}: ${bytes.length} bytes`)
}

const status = await fetch(`${url}/api/status`)
console.log(await status.json())
