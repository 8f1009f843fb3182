// The demo model with OpenAI's and Anthropic's APIs and a chat page, beside a route of one's own.
//
//     PORT=3000 node server.mjs
//     curl http://localhost:3000/v1/chat/completions -H 'content-type: application/json' \
//       -d '{"model":"demo","messages":[{"role":"user","content":"Hi!"}],"stream":true}'

import { createServer } from 'node:http'
import { createHandler, nodeListener } from 'nodemlx/server'

const handler = createHandler({ models: ['demo'] })
const models = nodeListener(handler)

const server = createServer((request, response) => {
  if (request.url === '/hello') response.end('Hello!')
  else models(request, response)
})

// Only this machine reaches it; for others it needs an apiKey and the name of its host.
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`Listening on http://localhost:${server.address().port}`)
})

process.once('SIGTERM', async () => {
  server.close()
  await handler.close()
  server.closeAllConnections()
})
