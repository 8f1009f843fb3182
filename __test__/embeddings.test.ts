// Embeddings and rankings of tiny models with random weights: what is asked, what comes back, and
// what is refused. Whether the numbers are right is for the tests in Rust.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, serve } from '../js/client/index.js'
import { isTextFile } from '../js/hub/selection.js'
import { loadModel } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import type { Embeddings, Model } from '../js/types.js'
import { writeBert } from './support/embedder.js'
import { Client } from './support/http.js'

const home = mkdtempSync(join(tmpdir(), 'nodemlx-embeddings-'))
const TEXTS = ['A fox ran away.', 'Bread needs yeast, and time!', '']

let embedder: Model
let judge: Model

beforeAll(async () => {
  embedder = await loadModel(writeBert(join(home, 'embedder'), 'embeds'))
  judge = await loadModel(writeBert(join(home, 'judge'), 'judges'))
})

afterAll(async () => {
  await embedder.dispose()
  await judge.dispose()
  rmSync(home, { recursive: true })
})

const length = (row: Float32Array | undefined): number => Math.hypot(...(row ?? []))

function expectNear(actual: Embeddings, expected: readonly (Float32Array | undefined)[]): void {
  expect(actual).toHaveLength(expected.length)
  actual.forEach((row, index) => {
    expect(row).toHaveLength(expected[index]?.length ?? -1)
    row.forEach((value, at) => {
      expect(value).toBeCloseTo(expected[index]?.[at] ?? Number.NaN, 4)
    })
  })
}

describe('a model that embeds', () => {
  it('says what it can do', () => {
    expect(embedder.info).toMatchObject({
      architecture: 'bert',
      capabilities: { generate: false, embed: true, rerank: false },
      embedding: {
        declared: true,
        dimensions: 32,
        pooling: ['mean'],
        normalize: true,
        tasks: ['document', 'query'],
      },
    })
    expect(judge.info.capabilities).toEqual({ generate: false, embed: false, rerank: true })
    expect(judge.info.embedding).toBeUndefined()
  })

  it('gives the same for a text alone and among others', async () => {
    const all = await embedder.embed(TEXTS)
    expect(all.map(length)).toEqual(TEXTS.map(() => expect.closeTo(1, 5) as number))
    const alone = await Promise.all(TEXTS.map((text) => embedder.embed(text)))
    expectNear(
      all,
      alone.map(([row]) => row),
    )
    expect(all.tokens).toBe(alone.reduce((sum, { tokens }) => sum + tokens, 0))
    expect(await embedder.embed([])).toEqual([])
  })

  it('gives what sentence-transformers 6.2 gives', async () => {
    const texts = ['A fox ran away.', 'é ß 漢字 [SEP] x']
    const [query] = await embedder.embed(texts, { task: 'query' })
    const [, other] = await embedder.embed(texts)
    const expected = [
      [-0.0176762, -0.1634721, -0.4030806, 0.0222399],
      [-0.0066685, -0.1075456, -0.3483785, 0.0299054],
    ]
    expectNear(
      [query, other].map((row) => row?.slice(0, 4)) as unknown as Embeddings,
      expected.map((row) => Float32Array.from(row)),
    )
  })

  it('takes tokens, and many texts', async () => {
    const tokens = await embedder.tokenize(TEXTS[0] ?? '')
    expectNear(await embedder.embed([{ tokens }]), await embedder.embed(TEXTS[0] ?? ''))
    const many = Array.from({ length: 300 }, (_, index) => `text number ${index % 7}`)
    const rows = await embedder.embed(many)
    expect(rows).toHaveLength(300)
    rows.forEach((row, index) => {
      expect(row[0]).toBeCloseTo(rows[index % 7]?.[0] ?? Number.NaN, 4)
    })
  })

  it('puts the prompt of a task in front', async () => {
    const query = await embedder.embed('a fox', { task: 'query' })
    expectNear(query, await embedder.embed('find: a fox'))
    expectNear(await embedder.embed('a fox', { task: 'document' }), await embedder.embed('a fox'))
  })

  it('does otherwise than its files say where it is told to', async () => {
    const [whole] = await embedder.embed('a fox', { normalize: false })
    expect(length(whole)).not.toBeCloseTo(1, 2)
    const [short] = await embedder.embed('a fox', { dimensions: 8 })
    expect(short).toHaveLength(8)
    expect(length(short)).toBeCloseTo(1, 5)
    const [first] = await embedder.embed('a fox', { pooling: 'cls' })
    const [last] = await embedder.embed('a fox', { pooling: 'lasttoken' })
    expect(first?.[0]).not.toBeCloseTo(last?.[0] ?? 0, 4)
    const both = await embedder.embed(['a', 'a fox'], { pooling: 'lasttoken' })
    expectNear(both.slice(1) as Embeddings, [last])
  })

  it('cuts texts only where it may', async () => {
    const long = 'a '.repeat(100)
    await expect(embedder.embed(['b', long])).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
      message:
        "texts[1] has 102 tokens, and the model's context holds 64: shorten it, or pass " +
        'truncate: true',
    })
    const cut = await embedder.embed(long, { truncate: true })
    expect(cut.tokens).toBe(64)
    expectNear(cut, await embedder.embed('a '.repeat(62)))
  })

  it.each([
    [{ task: 'summary' }, 'task', /is none of the model's: document, query/],
    [{ dimensions: 33 }, 'dimensions', /is 33, and the model's embeddings have 32/],
    [{ dimensions: 0 }, 'dimensions', /expected a whole number/],
    [{ pooling: 'median' }, 'pooling', /expected one of/],
    [{ tasks: 'query' }, 'tasks', /did you mean task/],
  ])('refuses %j', async (options, option, message) => {
    await expect(embedder.embed('a', options as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option,
      message: expect.stringMatching(message) as string,
    })
  })

  it('refuses what is no text, and to write', async () => {
    for (const texts of [5, [null], [{ text: 'a' }]])
      await expect(embedder.embed(texts as never)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    const wrong = { code: 'UNSUPPORTED', message: expect.stringContaining('embeds') as string }
    await expect(embedder.generate({ text: 'Hi' })).rejects.toMatchObject(wrong)
    await expect(embedder.score('Hi there')).rejects.toMatchObject(wrong)
    await expect(embedder.logits([5])).rejects.toMatchObject(wrong)
    await expect(embedder.rerank('a', ['b'])).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    await expect(judge.embed('a')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })

  it('ends when it is aborted', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const many = Array.from({ length: 2000 }, (_, index) => `text number ${index}`)
    const rows = embedder.embed(many, { signal })
    setImmediate(() => {
      controller.abort(new Error('enough'))
    })
    await expect(rows).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } })
    expect(await embedder.embed('a')).toHaveLength(1)
  })
})

describe('from the hub', () => {
  it.each([
    ['modules.json', true],
    ['sentence_bert_config.json', true],
    ['config_sentence_transformers.json', true],
    ['1_Pooling/config.json', true],
    ['2_Dense/model.safetensors', true],
    ['2_Dense/pytorch_model.bin', false],
    ['onnx/config.json', false],
    ['openvino/model.safetensors', false],
  ])('%s is downloaded: %s', (name, wanted) => {
    expect(isTextFile(name)).toBe(wanted)
  })
})

describe('a model that judges', () => {
  const documents = [
    'Bread needs yeast.',
    'The fox runs.',
    'A tower of stone.',
    'Bread needs yeast.',
  ]

  it('puts the best document first, and of equals the first', async () => {
    const ranked = await judge.rerank('What does a fox do?', documents)
    expect(ranked.map(({ index }) => index).sort()).toEqual([0, 1, 2, 3])
    const scores = ranked.map(({ score }) => score)
    expect(scores).toEqual([...scores].sort((a, b) => b - a))
    expect(scores.every((score) => score > 0 && score < 1)).toBe(true)
    const places = ranked.map(({ index }) => index)
    expect(places.indexOf(0)).toBeLessThan(places.indexOf(3))
    expect(await judge.rerank('What does a fox do?', documents, { topN: 2 })).toEqual(
      ranked.slice(0, 2),
    )
    expect(ranked.tokens).toBeGreaterThan(40)
    expect(await judge.rerank('a', [])).toEqual([])
  })

  it('gives what sentence-transformers 6.2 gives', async () => {
    const texts = [
      'A fox ran away.',
      'Bread needs yeast, and time!',
      '',
      ' a  b ',
      'a '.repeat(100),
    ]
    const scores = async (query: string): Promise<number[]> => {
      const ranked = await judge.rerank(query, texts, { truncate: true })
      return [...ranked].sort((a, b) => a.index - b.index).map(({ score }) => score)
    }
    const near = (values: number[]) => values.map((it) => expect.closeTo(it, 4) as number)
    const query = 'What does a fox do?'
    expect(await scores(query)).toEqual(near([0.874026, 0.962671, 0.843144, 0.851698, 0.989196]))
    // The longer text of a pair is cut.
    expect(await scores(`${query} `.repeat(6))).toEqual(
      near([0.924603, 0.761667, 0.91425, 0.796765, 0.983735]),
    )
  })

  it('refuses what it does not know', async () => {
    const wrong: [Promise<unknown>, string][] = [
      [judge.rerank('', documents), 'query'],
      [judge.rerank('a', 'b' as never), 'documents'],
      [judge.rerank('a', [5] as never), 'documents[0]'],
      [judge.rerank('a', documents, { topN: 0 }), 'topN'],
      [judge.rerank('a', documents, { instruction: 'be strict' }), 'instruction'],
    ]
    for (const [promise, option] of wrong)
      await expect(promise).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option })
    await expect(judge.rerank('a', ['b '.repeat(100)])).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
    })
    expect(await judge.rerank('a', ['b '.repeat(100)], { truncate: true })).toHaveLength(1)
  })
})

describe('a model that writes', () => {
  it('embeds as sentence-transformers does without files', async () => {
    await using demo = await loadModel('demo')
    expect(demo.info.capabilities).toEqual({ generate: true, embed: true, rerank: true })
    const { declared, pooling, normalize, dimensions } = demo.info.embedding ?? {}
    expect({ declared, pooling, normalize }).toEqual({
      declared: false,
      pooling: ['lasttoken'],
      normalize: false,
    })
    const texts = ['Paris is in France.', 'Count to ten, and then a little more than that.']
    const rows = await demo.embed(texts)
    expect(rows.map((row) => row.length)).toEqual([dimensions, dimensions])
    expectNear(rows, await demo.embed(texts, { pooling: 'lasttoken' }))
    expectNear((await demo.embed([...texts].reverse())).reverse() as Embeddings, rows)
  })

  it('is asked about each document', async () => {
    const model = fakeModel({
      answers: ({ messages }) => {
        const asked = JSON.stringify(messages?.at(-1)?.content)
        return { text: asked.includes('fox runs') ? 'yes' : 'no' }
      },
    })
    const ranked = await model.rerank('What does a fox do?', ['Bread.', 'The fox runs.'])
    expect(ranked.map(({ index }) => index)).toEqual([1, 0])
    expect(ranked[0]?.score).toBeGreaterThan(0.9)
    expect(model.requests[0]?.messages).toHaveLength(2)
  })
})

describe('behind a port', () => {
  it('models embed and judge, too', async () => {
    const { port1, port2 } = new MessageChannel()
    serve(port1)
    const client = connect(port2)
    try {
      const remote = await client.loadModel(join(home, 'embedder'))
      expectNear(await remote.embed(TEXTS), await embedder.embed(TEXTS))
      const ranking = await client.loadModel(join(home, 'judge'))
      expect(await ranking.rerank('a', ['b', 'c'])).toEqual(await judge.rerank('a', ['b', 'c']))
    } finally {
      client.close()
      port1.close()
    }
  })
})

describe('the server', () => {
  let client: Client
  beforeAll(() => {
    const models = {
      embedder: join(home, 'embedder'),
      judge: join(home, 'judge'),
      demo: 'demo',
    }
    client = new Client({ models })
  })
  afterAll(() => client.handler.close())

  const ask = async (path: string, body: object) => {
    const response = await client.post(path, body)
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  it('embeds as OpenAI does', async () => {
    const { status, body } = await ask('/v1/embeddings', { model: 'embedder', input: TEXTS[0] })
    expect(status).toBe(200)
    const [row] = await embedder.embed(TEXTS[0] ?? '')
    expect(body).toEqual({
      object: 'list',
      model: 'embedder',
      data: [{ object: 'embedding', index: 0, embedding: expect.any(Array) as number[] }],
      usage: { prompt_tokens: 14, total_tokens: 14 },
    })
    const [first] = body['data'] as { embedding: number[] }[]
    expect(first?.embedding[3]).toBeCloseTo(row?.[3] ?? Number.NaN, 4)
  })

  it('gives base64, and takes lists of texts and of tokens', async () => {
    const tokens = await embedder.tokenize('a fox')
    const inputs = [['a fox', 'b'], [tokens, [5, 6]], tokens]
    for (const input of inputs) {
      const { body } = await ask('/v1/embeddings', {
        model: 'embedder',
        input,
        encoding_format: 'base64',
        dimensions: 8,
      })
      const [first] = body['data'] as { embedding: string }[]
      const bytes = Buffer.from(first?.embedding ?? '', 'base64')
      expect(bytes).toHaveLength(32)
      const [row] = await embedder.embed('a fox', { dimensions: 8 })
      expect(bytes.readFloatLE(4)).toBeCloseTo(row?.[1] ?? Number.NaN, 4)
    }
  })

  it.each(['/v1/rerank', '/v2/rerank'])('ranks as Cohere and Jina do: %s', async (path) => {
    const body = { model: 'judge', query: 'a fox', documents: ['b', { text: 'c' }], top_n: 1 }
    const [best] = await judge.rerank('a fox', ['b', 'c'])
    const answer = await ask(path, { ...body, return_documents: true })
    expect(answer.body).toMatchObject({
      model: 'judge',
      results: [
        {
          index: best?.index,
          relevance_score: expect.closeTo(best?.score ?? Number.NaN, 5) as number,
          document: { text: ['b', 'c'][best?.index ?? 0] },
        },
      ],
    })
  })

  it.each([
    ['/v1/embeddings', { model: 'judge', input: 'a' }, 400, 'model'],
    ['/v1/embeddings', { model: 'nobody', input: 'a' }, 404, 'model'],
    ['/v1/embeddings', { model: 'embedder' }, 400, 'input'],
    ['/v1/embeddings', { model: 'embedder', input: [] }, 400, 'input'],
    ['/v1/embeddings', { model: 'embedder', input: ['a', ''] }, 400, 'input[1]'],
    ['/v1/embeddings', { model: 'embedder', input: [[1.5]] }, 400, 'input[0]'],
    ['/v1/embeddings', { model: 'embedder', input: ['a', [900]] }, 400, 'input[1].tokens[0]'],
    ['/v1/embeddings', { model: 'embedder', input: 'a', dimensions: 99 }, 400, 'dimensions'],
    [
      '/v1/embeddings',
      { model: 'embedder', input: 'a', encoding_format: 'x' },
      400,
      'encoding_format',
    ],
    ['/v1/rerank', { model: 'embedder', query: 'a', documents: ['b'] }, 400, 'model'],
    ['/v1/rerank', { model: 'judge', query: 'a', documents: [] }, 400, 'documents'],
    ['/v1/rerank', { model: 'judge', query: 'a', documents: [5] }, 400, 'documents[0]'],
    ['/v1/rerank', { model: 'judge', documents: ['b'] }, 400, 'query'],
  ])('%s refuses %j', async (path, request, expected, param) => {
    const { status, body } = await ask(path, request)
    expect({ status, param: (body['error'] as { param: string }).param }).toEqual({
      status: expected,
      param,
    })
  })

  it('generates with no model that embeds', async () => {
    const messages = [{ role: 'user', content: 'Hi' }]
    const { status } = await ask('/v1/chat/completions', { model: 'embedder', messages })
    expect(status).toBe(400)
  })
})
