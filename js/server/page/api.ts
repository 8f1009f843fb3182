import { setting } from './storage.js'

export interface ServedModel {
  id: string
  state: 'loaded' | 'loading' | 'not-loaded'
  /** Tokens of its context, once it is loaded. */
  max_model_len?: number
}

/** What a stream brings. */
export interface Chunk {
  content: string
  reasoning: string
  toolCalls: { index: number; id?: string; name?: string; arguments: string }[]
  finishReason?: string
  usage?: { promptTokens: number; completionTokens: number; cachedTokens: number }
  tokensPerSecond?: number
}

/** The server wants a key, or another one. */
export class KeyNeeded extends Error {}

export async function listModels(): Promise<ServedModel[]> {
  const response = await ask('v1/models')
  return ((await response.json()) as { data: ServedModel[] }).data
}

/** Streams an answer. */
export async function* chat(body: object, signal: AbortSignal): AsyncGenerator<Chunk, undefined> {
  const response = await ask('v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  })
  if (response.body !== null) {
    for await (const data of eventData(response.body)) {
      if (data === '[DONE]') return
      yield toChunk(JSON.parse(data) as RawChunk)
    }
  }
  throw new Error(BROKEN)
}

const BROKEN = 'the connection broke off before the answer was complete'

/** Says a failure of the connection in words: browsers have different ones, and all of them few. */
async function connected<T>(doing: Promise<T>, words: string): Promise<T> {
  try {
    return await doing
  } catch (error) {
    throw error instanceof TypeError ? new Error(words, { cause: error }) : error
  }
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const key = setting('key')
  const headers = new Headers(init.headers)
  if (key !== undefined) headers.set('authorization', `Bearer ${key}`)
  const asking = fetch(path, { ...init, headers })
  const response = await connected(asking, 'the server cannot be reached: is it still running?')
  if (response.ok) return response
  const message = await errorOf(response)
  throw response.status === 401 ? new KeyNeeded(message) : new Error(message)
}

async function errorOf(response: Response): Promise<string> {
  try {
    const { error } = (await response.json()) as { error: { message: string } }
    return error.message
  } catch {
    return `the server answered with ${response.status}`
  }
}

/** The data of server-sent events. */
async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
    .getReader()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await connected(reader.read(), BROKEN)
      if (done) return
      const blocks = (rest + value).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) if (block.startsWith('data: ')) yield block.slice(6)
    }
  } finally {
    void reader.cancel().catch(() => undefined)
  }
}

interface RawChunk {
  error?: { message: string }
  choices?: {
    delta?: {
      content?: string | null
      reasoning_content?: string | null
      tool_calls?: {
        index: number
        id?: string
        function?: { name?: string; arguments?: string }
      }[]
    }
    finish_reason?: string | null
  }[]
  usage?: {
    prompt_tokens: number
    completion_tokens: number
    prompt_tokens_details?: { cached_tokens?: number }
  } | null
  timings?: { predicted_per_second?: number }
}

function toChunk({ error, choices = [], usage, timings }: RawChunk): Chunk {
  if (error !== undefined) throw new Error(error.message)
  const [{ delta = {}, finish_reason: finishReason } = {}] = choices
  const chunk: Chunk = {
    content: delta.content ?? '',
    reasoning: delta.reasoning_content ?? '',
    toolCalls: (delta.tool_calls ?? []).map(({ index, id, function: made = {} }) => ({
      index,
      ...(id === undefined ? {} : { id }),
      ...(made.name === undefined ? {} : { name: made.name }),
      arguments: made.arguments ?? '',
    })),
  }
  if (finishReason !== undefined && finishReason !== null) chunk.finishReason = finishReason
  if (timings?.predicted_per_second !== undefined)
    chunk.tokensPerSecond = timings.predicted_per_second
  if (usage !== undefined && usage !== null) {
    chunk.usage = {
      promptTokens: usage.prompt_tokens,
      completionTokens: usage.completion_tokens,
      cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    }
  }
  return chunk
}
