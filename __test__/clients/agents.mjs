// npm's `@openai/agents` against the server at BASE_URL, with both of OpenAI's APIs.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  Agent,
  run,
  setDefaultOpenAIClient,
  setOpenAIAPI,
  setTracingDisabled,
  tool,
} from '@openai/agents'
import OpenAI from 'openai'
import { z } from 'zod'

setTracingDisabled(true)
setDefaultOpenAIClient(
  new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: 'secret', maxRetries: 0 }),
)
const settings = { model: 'demo', modelSettings: { temperature: 0, maxTokens: 100 } }
const weather = tool({
  name: 'get_weather',
  description: 'Get the weather in a city',
  parameters: z.object({ city: z.string() }),
  execute: ({ city }) => JSON.stringify({ city, temperature: 21, condition: 'sunny' }),
})
const agent = new Agent({ ...settings, name: 'Helper', tools: [weather] })
const question = 'What is the weather in Paris?'

for (const api of ['responses', 'chat_completions']) {
  test(`${api}: a tool is called, and an answer made of its result`, async () => {
    setOpenAIAPI(api)
    const { finalOutput } = await run(agent, question)
    assert.match(finalOutput, /sunny/)
    const streamed = await run(agent, question, { stream: true })
    let text = ''
    for await (const { type, data } of streamed)
      if (type === 'raw_model_stream_event' && data.type === 'output_text_delta') text += data.delta
    await streamed.completed
    assert.equal(text, streamed.finalOutput)
    assert.match(text, /sunny/)
  })

  test(`${api}: an answer is an object`, async () => {
    setOpenAIAPI(api)
    const outputType = z.object({ city: z.string() })
    const { finalOutput } = await run(
      new Agent({ ...settings, name: 'Reader', outputType }),
      'What is the capital of France?',
    )
    assert.match(finalOutput.city, /Paris/)
  })
}
