import { convertToModelMessages, streamText } from 'ai'
import { createNodeMlx } from 'nodemlx/ai-sdk'

// Once for the whole server: a model is loaded by the first request that needs it.
const nodemlx = createNodeMlx()

export async function POST(request) {
  const { messages } = await request.json()
  const result = streamText({
    model: nodemlx('demo'),
    messages: await convertToModelMessages(messages),
    // Whoever closes the page stops the answer.
    abortSignal: request.signal,
  })
  return result.toUIMessageStreamResponse()
}
