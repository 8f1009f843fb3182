// An HTTP server that streams answers as server-sent events, without a framework. A client that
// goes away stops its answer.
//
//     PORT=3000 node sse-server.mjs
//     curl -N "http://localhost:3000/?prompt=What+is+the+capital+of+Italy?"

import { createServer } from 'node:http'
import { loadModel, NodeMlxError } from 'nodemlx'

const model = await loadModel('demo')

const server = createServer(async (request, response) => {
  const prompt = new URL(request.url, 'http://localhost').searchParams.get('prompt')
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  const send = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
  try {
    const answer = model.generate(prompt, {
      temperature: 0,
      signal: gone.signal,
      // What a stranger writes must not end its message and begin another one.
      splitSpecialTokens: true,
    })
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    for await (const text of answer.textStream) send('text', text)
    const { finishReason, usage } = await answer
    send('done', { finishReason, usage })
  } catch (error) {
    const wrong = error instanceof NodeMlxError && error.code === 'INVALID_ARGUMENT'
    if (!response.headersSent) response.writeHead(wrong ? 400 : 500)
    send('error', { message: error.message })
  }
  response.end()
})

server.listen(Number(process.env.PORT ?? 3000), () => {
  console.log(`Listening on http://localhost:${server.address().port}`)
})

process.once('SIGTERM', async () => {
  server.close()
  server.closeAllConnections()
  await model.dispose()
})
