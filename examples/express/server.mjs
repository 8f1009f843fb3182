// OpenAI's and Anthropic's APIs in an Express app, beside a route of one's own that streams an
// answer as server-sent events.
//
//     npm install nodemlx express
//     PORT=3000 node server.mjs
//     curl -N http://localhost:3000/ask -H 'content-type: application/json' \
//       -d '{"question":"What is the capital of France?"}'

import express from 'express'
import { loadModel } from 'nodemlx'
import { createHandler, nodeListener } from 'nodemlx/server'

const model = await loadModel('demo')
const handler = createHandler({ models: { demo: model } })

const app = express()

// Before any parser of bodies: the handler reads them itself.
app.use('/v1', nodeListener(handler))

app.post('/ask', express.json(), async (request, response) => {
  const { question } = request.body ?? {}
  if (typeof question !== 'string') {
    response.status(400).json({ error: 'question: expected a text' })
    return
  }
  const stop = new AbortController()
  response.on('close', () => stop.abort())
  response.type('text/event-stream')
  const answer = model.generate(question, { signal: stop.signal })
  for await (const text of answer.textStream) response.write(`data: ${JSON.stringify(text)}\n\n`)
  response.end()
})

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`Listening on http://localhost:${server.address().port}`)
})

process.once('SIGTERM', async () => {
  server.close()
  await handler.close()
  await model.dispose()
  server.closeAllConnections()
})
