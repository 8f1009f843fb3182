// npm's `@langchain/openai` against the server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HumanMessage, SystemMessage } from '@langchain/core/messages'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'

const model = new ChatOpenAI({
  model: 'demo',
  apiKey: 'secret',
  temperature: 0,
  maxRetries: 0,
  configuration: { baseURL: `${process.env.BASE_URL}/v1` },
})
const FRANCE = [
  new SystemMessage('Answer briefly.'),
  new HumanMessage('What is the capital of France?'),
]

test('invoke', async () => {
  const message = await model.invoke(FRANCE)
  assert.match(message.content, /Paris/)
  assert.ok(message.usage_metadata.output_tokens > 0)
})

test('stream', async () => {
  let text = ''
  for await (const chunk of await model.stream(FRANCE)) text += chunk.content
  assert.match(text, /Paris/)
})

test('batch', async () => {
  const answers = await model.batch([FRANCE, FRANCE])
  for (const { content } of answers) assert.match(content, /Paris/)
})

test('the responses API', async () => {
  const responses = new ChatOpenAI({
    model: 'demo',
    apiKey: 'secret',
    temperature: 0,
    useResponsesApi: true,
    configuration: { baseURL: `${process.env.BASE_URL}/v1` },
  })
  const message = await responses.invoke(FRANCE)
  assert.match(message.text, /Paris/)
})

test('a call of a tool, streamed and not', async () => {
  const tools = [
    {
      type: 'function',
      function: {
        name: 'get_weather',
        description: 'Get the weather in a city',
        parameters: {
          type: 'object',
          properties: { city: { type: 'string', description: 'The name of the city' } },
          required: ['city'],
        },
      },
    },
  ]
  const bound = model.bindTools(tools)
  const question = [new HumanMessage('What is the weather in Paris?')]
  const { tool_calls: calls } = await bound.invoke(question)
  assert.deepEqual([calls[0].name, calls[0].args], ['get_weather', { city: 'Paris' }])
  let all
  for await (const chunk of await bound.stream(question)) all = all ? all.concat(chunk) : chunk
  assert.deepEqual(all.tool_calls[0].args, { city: 'Paris' })
})

test('embeddings', async () => {
  const embeddings = new OpenAIEmbeddings({
    model: 'embedder',
    apiKey: 'secret',
    maxRetries: 0,
    dimensions: 8,
    configuration: { baseURL: `${process.env.BASE_URL}/v1` },
  })
  const texts = ['A fox ran away.', 'Bread needs yeast.']
  const documents = await embeddings.embedDocuments(texts)
  assert.deepEqual(
    documents.map((row) => row.length),
    [8, 8],
  )
  const query = await embeddings.embedQuery(texts[1])
  query.forEach((value, at) => assert.ok(Math.abs(value - documents[1][at]) < 1e-5))
})
