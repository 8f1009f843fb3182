// npm's `@ai-sdk/openai-compatible` with `ai` against the server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const provider = createOpenAICompatible({
  name: 'nodemlx',
  baseURL: `${process.env.BASE_URL}/v1`,
  apiKey: 'secret',
  includeUsage: true,
})
const FRANCE = {
  model: provider('demo'),
  prompt: 'What is the capital of France?',
  temperature: 0,
  maxRetries: 0,
}

test('generateText', async () => {
  const { text, finishReason, usage } = await generateText({ ...FRANCE, seed: 1 })
  assert.match(text, /Paris/)
  assert.equal(finishReason, 'stop')
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0)
})

test('streamText', async () => {
  const result = streamText(FRANCE)
  let text = ''
  for await (const piece of result.textStream) text += piece
  assert.match(text, /Paris/)
  assert.ok((await result.usage).outputTokens > 0)
})

test('a completion model', async () => {
  const model = provider.completionModel('demo')
  const { text } = await generateText({ model, prompt: 'Once upon a time', maxOutputTokens: 5 })
  assert.ok(text.length > 0)
})

test('an error', async () => {
  await assert.rejects(
    generateText({ ...FRANCE, model: provider('x') }),
    (error) => error.statusCode === 404 && /no model "x"/.test(error.message),
  )
})

test('tools, in several steps', async () => {
  const asked = []
  const get_weather = tool({
    description: 'Get the weather in a city',
    inputSchema: z.object({ city: z.string().describe('The name of the city') }),
    execute: ({ city }) => {
      asked.push(city)
      return { temp: 21 }
    },
  })
  const request = {
    ...FRANCE,
    prompt: 'What is the weather in Paris?',
    tools: { get_weather },
    stopWhen: stepCountIs(3),
  }
  assert.match((await generateText(request)).text, /21/)
  assert.match(await streamText(request).text, /21/)
  assert.deepEqual(asked, ['Paris', 'Paris'])
})
