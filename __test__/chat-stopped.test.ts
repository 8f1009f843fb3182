// Chats whose answers were stopped, or failed after tools had run: what they keep, and that they
// can be used at once.

import { describe, expect, it } from 'vitest'
import { fakeModel } from '../js/testing/index.js'
import type { AnyTool, Generation } from '../js/types.js'
import { WEATHER, demoChats } from './support/chats.js'

const { chat } = demoChats()

const STORY = 'Tell me a short story about a fox.'
const QUESTION = 'What is the weather in Paris?'

function weather(execute: () => unknown): AnyTool {
  return { ...WEATHER, execute }
}

/** Reads three items, and leaves. */
async function leave(texts: AsyncIterable<unknown>): Promise<void> {
  const read: unknown[] = []
  for await (const text of texts) if (read.push(text) === 3) break
}

type Stop = (generation: Generation, controller: AbortController) => Promise<void>

const STOPS: [string, Stop][] = [
  ['leaving the chunks', (generation) => leave(generation)],
  ['leaving textStream', (generation) => leave(generation.textStream)],
  [
    'cancelling stream',
    async ({ stream }) => {
      const reader = stream.getReader()
      for (let i = 0; i < 3; i++) await reader.read()
      await reader.cancel()
    },
  ],
  [
    'abort()',
    async (generation) => {
      for await (const text of generation.textStream) {
        if (text === '') continue
        generation.abort()
        return
      }
    },
  ],
  [
    'a signal',
    async (generation, controller) => {
      for await (const text of generation.textStream) {
        if (text === '') continue
        controller.abort()
        return
      }
    },
  ],
]

describe('an answer that was stopped', () => {
  it.each(STOPS)('by %s stays, and the next follows on the spot', async (_, stop) => {
    const controller = new AbortController()
    const session = chat()
    const first = session.send(STORY, { signal: controller.signal })
    await stop(first, controller)
    const cut = session.messages
    expect(cut).toEqual([
      { role: 'user', content: STORY },
      { role: 'assistant', content: expect.stringMatching(/\w/) as string },
    ])
    const second = session.send('What is the capital of France?')
    expect((await first).text).toBe(cut[1]?.content)
    const { text, finishReason, usage } = await second
    expect(finishReason).toBe('stop')
    expect(text).toMatch(/Paris/)
    // What the first has read need not be read again: the second began behind its end.
    expect(usage.cachedTokens).toBeGreaterThan(10)
    expect(session.messages).toEqual([
      ...cut,
      { role: 'user', content: 'What is the capital of France?' },
      { role: 'assistant', content: text },
    ])
  })

  it('can be answered again, gone on with, left behind and edited at once', async () => {
    const session = chat()
    const stopped = async (): Promise<void> => {
      await leave(session.send(STORY).textStream)
    }
    await stopped()
    const retried = await session.retry({ maxTokens: 8 })
    expect(session.messages).toHaveLength(2)
    expect(session.messages[1]?.content).toBe(retried.text)
    await stopped()
    const begun = session.messages.at(-1)?.content as string
    const { text } = await session.continue({ maxTokens: 5 })
    expect(session.messages.at(-1)?.content).toBe(begun + text)
    await stopped()
    expect(session.fork().messages).toEqual(session.messages)
    session.messages = []
    await session.send('Hello!')
    expect(session.messages).toHaveLength(2)
  })

  it('was never asked for where nothing was said yet', async () => {
    const session = chat()
    const answer = session.send(STORY)
    answer.abort()
    expect(session.messages).toEqual([])
    await session.send('Hello!')
    expect(session.messages[0]).toEqual({ role: 'user', content: 'Hello!' })
    expect(await answer).toMatchObject({ finishReason: 'abort', text: '' })
    expect(session.messages).toHaveLength(2)
  })

  it('is followed by one at a time, which is checked at once', async () => {
    const session = chat()
    await leave(session.send(STORY).textStream)
    expect(() => session.send('x', { topP: 2 })).toThrow(/topP/)
    const answer = session.send('Hello!')
    expect(() => session.send('Hi')).toThrow(/is answering/)
    answer.abort()
    // The one behind an answer that was stopped before it had begun.
    expect((await session.send('Hello!')).finishReason).toBe('stop')
  })

  it('is followed where old turns are dropped, and within a limit of time', async () => {
    const session = chat({ onContextFull: 'drop-oldest', maxTimeMs: 60_000 })
    await leave(session.send(STORY).textStream)
    expect((await session.send('Hello!')).finishReason).toBe('stop')
    expect(session.messages).toHaveLength(4)
  })

  it('has results of its calls: those that came, and that others were aborted', async () => {
    const answers = [
      {
        toolCalls: [
          { name: 'get_weather', arguments: { city: 'Paris' } },
          { name: 'get_weather', arguments: { city: 'Rome' } },
        ],
      },
      'Sorry.',
    ]
    const fake = fakeModel({ answers })
    let runs = 0
    let running: () => void = () => undefined
    const both = new Promise<void>((resolve) => {
      running = resolve
    })
    const session = fake.chat({
      tools: [
        weather(async () => {
          if (++runs === 1) return Promise.resolve('sunny')
          running()
          return new Promise(() => undefined)
        }),
      ],
    })
    const answer = session.send(QUESTION)
    void answer.result
    await both
    await new Promise((resolve) => setTimeout(resolve, 10))
    answer.abort()
    expect(session.messages.slice(2).map(({ role, content }) => [role, content])).toEqual([
      ['tool', 'sunny'],
      ['tool', 'Error: the call was aborted'],
    ])
    expect((await session.send('Never mind.')).text).toBe('Sorry.')
    expect(session.messages).toHaveLength(6)
    // And where it is stopped before they are made.
    const before = fakeModel({ answers, tokenMs: 1 }).chat({ tools: [weather(() => 'sunny')] })
    for await (const { type } of before.send(QUESTION)) if (type === 'tool-call-end') break
    const [, said, result] = before.messages
    expect(result).toMatchObject({
      content: 'Error: the call was aborted',
      tool_call_id: said?.tool_calls?.[0]?.id,
    })
  })
})

describe('an answer that fails', () => {
  it('after tools have run keeps their calls, and can be gone on with', async () => {
    let runs = 0
    const fake = fakeModel({
      answers: [
        { toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }] },
        { text: 'It is', error: { code: 'INTERNAL_ERROR' } },
        'It is sunny.',
      ],
    })
    const session = fake.chat({ tools: [weather(() => `sunny ${++runs}`)] })
    await expect(session.send(QUESTION)).rejects.toMatchObject({ code: 'INTERNAL_ERROR' })
    expect(session.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool'])
    const { text } = await session.continue()
    expect(text).toBe('It is sunny.')
    expect(runs).toBe(1)
    expect(session.messages.map(({ content }) => content)).toEqual([QUESTION, '', 'sunny 1', text])
  })

  it('for a result that is too large says so, and the result can be made shorter', async () => {
    const session = chat({ tools: [weather(() => 'word '.repeat(5000))] })
    await expect(session.send(QUESTION)).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' })
    session.messages = session.messages.map((message) =>
      message.role === 'tool' ? { ...message, content: '{"condition":"sunny"}' } : message,
    )
    expect((await session.continue()).text).toMatch(/sunny/)
  })

  it('because of onPrefill leaves the chat as it was, and free', async () => {
    const session = chat()
    const thrown = new RangeError('mine')
    const onPrefill = (): void => {
      throw thrown
    }
    await expect(session.send(STORY, { onPrefill })).rejects.toBe(thrown)
    expect(session.messages).toEqual([])
    expect((await session.send('Hello!')).finishReason).toBe('stop')
  })
})
