// OpenAI's and Anthropic's APIs in a Hono app, beside a route of one's own that streams an answer.
//
//     npm install nodemlx hono @hono/node-server
//     PORT=3000 node server.mjs
//     curl 'http://localhost:3000/ask?question=What+is+the+capital+of+France%3F'

import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { streamText } from 'hono/streaming'
import { loadModel } from 'nodemlx'
import { createHandler } from 'nodemlx/server'

const model = await loadModel('demo')
// The model that the own route uses, under a name for clients.
const handler = createHandler({ models: { demo: model } })

const app = new Hono()

app.all('/v1/*', (c) => handler(c.req.raw))

app.get('/ask', (c) =>
  streamText(c, async (stream) => {
    // A client that goes away ends the loop, and that the generation.
    const answer = model.generate(c.req.query('question') ?? 'Hi!', { signal: c.req.raw.signal })
    for await (const text of answer.textStream) await stream.write(text)
  }),
)

const port = Number(process.env.PORT ?? 3000)
const server = serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, (address) => {
  console.log(`Listening on http://localhost:${address.port}`)
})

process.once('SIGTERM', async () => {
  server.close()
  await handler.close()
  await model.dispose()
  server.closeAllConnections()
})
