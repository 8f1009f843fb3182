// The AI SDK with the demo model and with fake ones: run by ai-sdk.test.ts, by Node.js 22 or newer.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  cosineSimilarity,
  createProviderRegistry,
  defaultSettingsMiddleware,
  embed,
  embedMany,
  extractReasoningMiddleware,
  generateText,
  isStepCount,
  NoSuchModelError,
  Output,
  rerank,
  streamText,
  tool,
  ToolLoopAgent,
  UnsupportedFunctionalityError,
  wrapLanguageModel,
} from 'ai'
import { NodeMlxError } from 'nodemlx'
import { createNodeMlx } from 'nodemlx/ai-sdk'
import { fakeModel } from 'nodemlx/testing'
import { z } from 'zod'

const nodemlx = createNodeMlx({ load: { device: 'cpu', threads: 1 } })
after(() => nodemlx.dispose())

const demo = nodemlx('demo')
const GREEDY = { model: demo, temperature: 0, maxOutputTokens: 60 }

/** A model that answers so, for the AI SDK. */
const fake = (answers) => createNodeMlx({ models: { fake: fakeModel({ answers }) } })('fake')

const weather = tool({
  description: 'Get the weather in a city',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ city, temperature: 21, condition: 'sunny' }),
})

async function collect(stream) {
  const all = []
  for await (const item of stream) all.push(item)
  return all
}

test('generateText answers, and says what it took', async () => {
  const result = await generateText({ ...GREEDY, prompt: 'What is the capital of France?' })
  assert.match(result.text, /Paris/)
  assert.equal(result.finishReason, 'stop')
  assert.deepEqual(result.warnings, [])
  const { inputTokens, outputTokens, totalTokens, inputTokenDetails, outputTokenDetails } =
    result.usage
  assert.equal(totalTokens, inputTokens + outputTokens)
  assert.equal(inputTokenDetails.noCacheTokens + inputTokenDetails.cacheReadTokens, inputTokens)
  assert.equal(outputTokenDetails.textTokens, outputTokens)
  assert.equal(outputTokenDetails.reasoningTokens, 0)
  assert.equal(result.response.modelId, 'demo')
  assert.ok(result.finalStep.providerMetadata.nodemlx.timings.totalMs > 0)
})

test('generateText follows a conversation and its system message', async () => {
  const { text } = await generateText({
    ...GREEDY,
    instructions: 'Answer with one word.',
    messages: [
      { role: 'user', content: 'My favourite colour is teal.' },
      { role: 'assistant', content: 'Thank you, I will remember that.' },
      { role: 'user', content: [{ type: 'text', text: 'What is my favourite colour?' }] },
    ],
  })
  assert.match(text, /teal/i)
})

test('streamText comes in pieces', async () => {
  const result = streamText({ ...GREEDY, prompt: 'What is the capital of Japan?' })
  const pieces = await collect(result.textStream)
  assert.match(pieces.join(''), /Tokyo/)
  assert.equal(await result.text, pieces.join(''))
  assert.equal(await result.finishReason, 'stop')
  assert.ok((await result.usage).outputTokens > 3)
  // How many pieces an engine's answer has depends on how fast it is read.
  const text = 'The capital of Japan is Tokyo.'
  const written = streamText({ model: fake([text]), prompt: 'What is the capital of Japan?' })
  assert.ok((await collect(written.textStream)).length > 3)
})

test('stop sequences and the limit end an answer', async () => {
  const prompt = 'What is the capital of France?'
  const stopped = await generateText({ ...GREEDY, prompt, stopSequences: [' Paris'] })
  assert.match(stopped.text, /France is$/)
  const limited = await generateText({ ...GREEDY, prompt, maxOutputTokens: 3 })
  assert.equal(limited.finishReason, 'length')
  assert.equal(limited.usage.outputTokens, 3)
})

test('the demo model calls a tool, and answers from its result', async () => {
  const result = await generateText({
    ...GREEDY,
    prompt: 'What is the weather in Paris?',
    tools: { get_weather: weather },
    stopWhen: isStepCount(3),
  })
  const [first, second] = result.steps
  assert.equal(first.finishReason, 'tool-calls')
  assert.deepEqual(first.toolCalls[0].input, { city: 'Paris' })
  assert.deepEqual(first.toolResults[0].output, {
    city: 'Paris',
    temperature: 21,
    condition: 'sunny',
  })
  assert.equal(second.finishReason, 'stop')
  assert.match(result.text, /21|sunny/)
})

test('the input of a tool is streamed', async () => {
  const seen = []
  const result = streamText({
    ...GREEDY,
    prompt: 'What is the weather in Paris?',
    tools: {
      get_weather: tool({
        ...weather,
        onInputStart: () => void seen.push('start'),
        onInputDelta: ({ inputTextDelta }) => void seen.push(inputTextDelta),
        onInputAvailable: ({ input }) => void seen.push(input),
      }),
    },
    stopWhen: isStepCount(3),
  })
  const types = (await collect(result.fullStream)).map(({ type }) => type)
  assert.ok(types.includes('tool-input-start') && types.includes('tool-input-end'))
  assert.ok(types.includes('tool-call') && types.includes('tool-result'))
  assert.equal(seen.shift(), 'start')
  assert.deepEqual(seen.pop(), { city: 'Paris' })
  assert.deepEqual(JSON.parse(seen.join('')), { city: 'Paris' })
  assert.match(await result.text, /21|sunny/)
})

test('an agent goes on until it has an answer', async () => {
  const agent = new ToolLoopAgent({
    ...GREEDY,
    tools: { get_weather: weather },
  })
  const { textStream, steps } = await agent.stream({ prompt: 'What is the weather in Paris?' })
  assert.match((await collect(textStream)).join(''), /21|sunny/)
  assert.equal((await steps).length, 2)
})

test('several calls and an error of a tool come back to the model', async () => {
  const model = fakeModel({
    answers: [
      {
        toolCalls: [
          { name: 'add', arguments: { a: 1, b: 2 } },
          { name: 'add', arguments: { a: 0, b: 0 } },
        ],
      },
      'Done.',
    ],
  })
  const { steps, text } = await generateText({
    model: createNodeMlx({ models: { fake: model } })('fake'),
    prompt: 'Add.',
    stopWhen: isStepCount(5),
    tools: {
      add: tool({
        inputSchema: z.object({ a: z.number(), b: z.number() }),
        execute: ({ a, b }) => {
          if (a === b) throw new Error('nothing to add')
          return a + b
        },
      }),
    },
  })
  assert.equal(text, 'Done.')
  assert.equal(steps.length, 2)
  const [, assistant, ...results] = model.requests[1].messages
  assert.deepEqual(
    assistant.tool_calls.map((call) => call.function),
    [
      { name: 'add', arguments: { a: 1, b: 2 } },
      { name: 'add', arguments: { a: 0, b: 0 } },
    ],
  )
  assert.deepEqual(
    results.map(({ role, tool_call_id: id, content }) => ({ role, id, content })),
    [
      { role: 'tool', id: 'call00001', content: '3' },
      { role: 'tool', id: 'call00002', content: 'Error: nothing to add' },
    ],
  )
})

test('a call that cannot be read is repaired', async () => {
  const model = fake({ toolCalls: [{ name: 'add', arguments: { a: 1, b: 2 } }] })
  const broken = []
  const { toolCalls } = await generateText({
    model,
    prompt: 'Add.',
    maxOutputTokens: 8,
    repairToolCall: async ({ toolCall }) => {
      broken.push(toolCall.input)
      return { ...toolCall, input: '{"a":1,"b":2}' }
    },
    tools: {
      add: tool({
        inputSchema: z.object({ a: z.number(), b: z.number() }),
        execute: ({ a, b }) => a + b,
      }),
    },
  })
  assert.deepEqual(broken, ['{"a"'])
  assert.deepEqual(toolCalls[0].input, { a: 1, b: 2 })
})

test('reasoning is told from the answer', async () => {
  const model = fake({ reasoning: 'Let me think.', text: 'Four.' })
  const whole = await generateText({ model, prompt: 'What is 2 + 2?' })
  assert.equal(whole.reasoningText, 'Let me think.')
  assert.equal(whole.text, 'Four.')
  assert.ok(whole.usage.outputTokenDetails.reasoningTokens > 0)
  const parts = await collect(streamText({ model, prompt: 'What is 2 + 2?' }).fullStream)
  const of = (type) => parts.filter((part) => part.type === type)
  assert.equal(
    of('reasoning-delta')
      .map(({ text }) => text)
      .join(''),
    'Let me think.',
  )
  assert.equal(of('reasoning-start').length, 1)
  assert.equal(of('reasoning-end').length, 1)
  assert.equal(
    of('text-delta')
      .map(({ text }) => text)
      .join(''),
    'Four.',
  )
})

test('an answer is an object of a schema, whole and as it grows', async () => {
  const schema = z.object({ city: z.string().max(20), population: z.number().int() })
  const output = Output.object({ schema })
  const prompt = 'Name a city.'
  const { output: written } = await generateText({ ...GREEDY, prompt, output })
  assert.deepEqual(schema.parse(written), written)
  const object = { city: 'Paris', population: 2_100_000 }
  const { partialOutputStream } = streamText({ model: fake({ object }), prompt, output })
  const partials = await collect(partialOutputStream)
  assert.ok(partials.length > 2)
  assert.deepEqual(partials.at(-1), object)
})

test('tools are called, and the answer is an object', async () => {
  const schema = z.object({ city: z.string().max(20), sunny: z.boolean() })
  const request = {
    ...GREEDY,
    prompt: 'What is the weather in Paris?',
    tools: { get_weather: weather },
    output: Output.object({ schema }),
    stopWhen: isStepCount(3),
  }
  const { steps, output } = await generateText(request)
  assert.deepEqual(steps[0].toolCalls[0].input, { city: 'Paris' })
  assert.equal(steps[1].finishReason, 'stop')
  assert.deepEqual(schema.parse(output), output)
  const streamed = streamText(request)
  const partials = await collect(streamed.partialOutputStream)
  assert.deepEqual(partials.at(-1), output)
  assert.equal((await streamed.steps)[0].toolCalls.length, 1)
})

test('middleware wraps the models', async () => {
  const base = fakeModel({ answers: '<think>Hm.</think>Yes.' })
  const provider = createNodeMlx({ models: { fake: base } })
  const model = wrapLanguageModel({
    model: provider('fake'),
    middleware: [
      extractReasoningMiddleware({ tagName: 'think' }),
      defaultSettingsMiddleware({ settings: { temperature: 0.25, maxOutputTokens: 50 } }),
    ],
  })
  const { text, reasoningText } = await generateText({ model, prompt: 'Well?' })
  assert.deepEqual({ text, reasoningText }, { text: 'Yes.', reasoningText: 'Hm.' })
  assert.equal(base.requests[0].options.temperature, 0.25)
})

test('models are found through a registry', async () => {
  const registry = createProviderRegistry({ nodemlx })
  const { text } = await generateText({
    ...GREEDY,
    model: registry.languageModel('nodemlx:demo'),
    prompt: 'What is the opposite of hot?',
  })
  assert.match(text, /cold/)
})

test('an abort ends generateText with its reason, and a stream with a part', async () => {
  const endless = Array.from({ length: 3000 }, () => 'word').join(' ')
  const model = fake({ text: endless, tokenMs: 1 })
  const controller = new AbortController()
  setTimeout(() => controller.abort(), 30)
  await assert.rejects(generateText({ model, prompt: 'Go on.', abortSignal: controller.signal }), {
    name: 'AbortError',
  })
  const second = new AbortController()
  let aborted = false
  const result = streamText({
    model,
    prompt: 'Go on.',
    abortSignal: second.signal,
    onAbort: () => {
      aborted = true
    },
  })
  const parts = []
  for await (const part of result.fullStream) {
    parts.push(part)
    if (parts.length === 10) second.abort()
  }
  assert.equal(parts.at(-1).type, 'abort')
  assert.equal(aborted, true)
})

test('errors keep their code', async () => {
  const model = fake({ text: 'Well', error: { code: 'MLX_ERROR', message: 'broken' } })
  await assert.rejects(generateText({ model, prompt: 'Hi' }), (error) => {
    assert.ok(error instanceof NodeMlxError)
    assert.equal(error.code, 'MLX_ERROR')
    return true
  })
  const errors = []
  const result = streamText({ model, prompt: 'Hi', onError: ({ error }) => errors.push(error) })
  const parts = await collect(result.fullStream)
  assert.equal(parts.find(({ type }) => type === 'error').error.code, 'MLX_ERROR')
  assert.equal(errors[0].code, 'MLX_ERROR')
  await assert.rejects(
    generateText({ model: nodemlx('/no/such/folder'), prompt: 'Hi', maxRetries: 0 }),
    { code: 'MODEL_NOT_FOUND' },
  )
})

test('what models cannot do is said as the AI SDK says it', async () => {
  assert.throws(
    () => nodemlx.imageModel('demo'),
    (error) => NoSuchModelError.isInstance(error) && error.modelType === 'imageModel',
  )
  const image = { type: 'file', data: new Uint8Array([1, 2, 3]), mediaType: 'image/png' }
  await assert.rejects(
    generateText({ model: demo, messages: [{ role: 'user', content: [image] }] }),
    (error) => UnsupportedFunctionalityError.isInstance(error),
  )
})

test('texts are embedded', async () => {
  const provider = createNodeMlx({ models: { fake: fakeModel({ answers: 'Hi.' }) } })
  const model = provider.embeddingModel('fake')
  const values = ['The fox ran.', 'The fox ran!', 'Bread needs yeast.']
  const { embeddings, usage } = await embedMany({ model, values })
  assert.equal(usage.tokens > 8, true)
  assert.equal(cosineSimilarity(embeddings[0], embeddings[1]) > 0.5, true)
  assert.equal(cosineSimilarity(embeddings[0], embeddings[2]) < 0.5, true)
  const options = { nodemlx: { task: 'query' } }
  const one = await embed({
    model: provider.textEmbeddingModel('fake'),
    value: values[0],
    providerOptions: options,
  })
  assert.deepEqual(one.embedding, embeddings[0])
  const wrong = (own) =>
    embed({ model, value: 'a', providerOptions: { nodemlx: own }, maxRetries: 0 })
  await assert.rejects(wrong({ task: 'summary' }), { code: 'INVALID_ARGUMENT', option: 'task' })
  await assert.rejects(wrong({ tasks: 'query' }), /providerOptions\.nodemlx\.tasks/)
  const abortSignal = AbortSignal.abort()
  await assert.rejects(embed({ model, value: 'a', abortSignal }), { name: 'AbortError' })
})

test('documents are ranked', async () => {
  const answers = ({ messages }) => ({
    text: messages.at(-1).content.includes('runs') ? 'yes' : 'no',
  })
  const model = createNodeMlx({ models: { fake: fakeModel({ answers }) } }).rerankingModel('fake')
  const documents = ['Bread needs yeast.', 'The fox runs.']
  const { ranking, rerankedDocuments } = await rerank({
    model,
    documents,
    query: 'What does a fox do?',
    topN: 1,
  })
  assert.deepEqual(rerankedDocuments, ['The fox runs.'])
  assert.equal(ranking[0].originalIndex, 1)
  assert.equal(ranking[0].score > 0.9, true)
  const objects = documents.map((text) => ({ text }))
  const { ranking: same } = await rerank({
    model,
    documents: objects,
    query: 'What does a fox do?',
  })
  assert.deepEqual(
    same.map(({ originalIndex }) => originalIndex),
    [1, 0],
  )
})

test('options of the provider reach the model, and wrong ones are refused by name', async () => {
  const base = fakeModel({ answers: 'Yes.' })
  const model = createNodeMlx({ models: { fake: base } })('fake')
  await generateText({
    model,
    prompt: 'Hi',
    providerOptions: { nodemlx: { minP: 0.1, repetitionPenalty: 1.1 } },
  })
  assert.deepEqual(base.requests[0].options, { minP: 0.1, repetitionPenalty: 1.1 })
  const wrong = (options) =>
    generateText({ model, prompt: 'Hi', providerOptions: { nodemlx: options } })
  await assert.rejects(wrong({ minp: 0.1 }), { code: 'INVALID_ARGUMENT', option: 'minp' })
  await assert.rejects(wrong({ temperature: 1 }), /own option temperature/)
})
