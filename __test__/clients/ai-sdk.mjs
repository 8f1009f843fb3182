// npm's `@ai-sdk/openai-compatible`, `@ai-sdk/openai` and `@ai-sdk/anthropic` with `ai` against the
// server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, Output, stepCountIs, streamText, tool, ToolLoopAgent } from 'ai'
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

const own = { baseURL: `${process.env.BASE_URL}/v1`, apiKey: 'secret' }
const openai = createOpenAI(own)
const others = {
  "OpenAI's responses": openai('demo'),
  "OpenAI's chats": openai.chat('demo'),
  "Anthropic's messages": createAnthropic(own)('demo'),
}
for (const [name, model] of Object.entries(others)) {
  test(`the provider of ${name}`, async () => {
    const request = { model, temperature: 0, maxOutputTokens: 100, maxRetries: 0 }
    const tools = {
      get_weather: tool({
        description: 'Get the weather in a city',
        inputSchema: z.object({ city: z.string() }),
        execute: ({ city }) => ({ city, temperature: 21, condition: 'sunny' }),
      }),
    }
    const prompt = 'What is the weather in Paris?'
    const { text } = await new ToolLoopAgent({ ...request, tools }).generate({ prompt })
    assert.match(text, /sunny/)
    const streamed = streamText({ ...request, prompt, tools, stopWhen: stepCountIs(3) })
    const types = new Set()
    for await (const { type } of streamed.fullStream) types.add(type)
    assert.ok(types.has('tool-input-delta') && types.has('tool-result'))
    assert.match(await streamed.text, /sunny/)
    assert.ok((await streamed.usage).inputTokenDetails.cacheReadTokens > 0)
    const output = Output.object({ schema: z.object({ city: z.string().max(20) }) })
    const named = await generateText({ ...request, prompt: 'Name a city.', output })
    assert.equal(typeof named.output.city, 'string')
  })
}
