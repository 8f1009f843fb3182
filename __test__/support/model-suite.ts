import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { FakeAnswer, FakeRequest } from '../../js/testing/index.js'
import type {
  GenerateOptions,
  GenerationChunk,
  Message,
  Model,
  ToolDefinition,
} from '../../js/types.js'

const GREEDY = { temperature: 0, maxTokens: 40 }
const FRANCE = 'What is the capital of France?'

const WEATHER = 'What is the weather in Paris?'

/** What the demo model answers in the suite, for a fake one. */
export function demoAnswer({ messages, options }: FakeRequest): string | FakeAnswer {
  const content = messages?.at(-1)?.content
  const asked = typeof content === 'string' ? content : ''
  if (asked === WEATHER)
    return { toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }] }
  const format = options['responseFormat'] as { options?: readonly string[] } | undefined
  if (format?.options !== undefined) return format.options[0] ?? ''
  if (asked.includes('France')) return 'The capital of France is Paris.'
  if (asked.includes('Japan')) return 'The capital of Japan is Tokyo.'
  if (asked.includes('colour?')) return 'Your favourite colour is teal.'
  const words = ['fox', 'ran', 'over', 'the', 'hill', 'and', String(options['seed'])]
  return Array.from({ length: 1000 }, (_, index) => words[index % words.length]).join(' ')
}

/** What is the same for every model, whatever is behind it: a fake, the engine, or a port. */
export function describeModel(name: string, load: () => Promise<Model>): void {
  describe(name, () => {
    let model: Model
    let folder: string

    beforeAll(async () => {
      model = await load()
      folder = mkdtempSync(join(tmpdir(), 'nodemlx-suite-'))
    })

    afterAll(async () => {
      await model.dispose()
      rmSync(folder, { recursive: true })
    })

    /** An answer that does not end before the context does. */
    const endless = (options: GenerateOptions = {}) =>
      model.generate('Tell me a story.', {
        temperature: 1,
        seed: 1,
        logitBias: Object.fromEntries(model.info.eosTokens.map((token) => [token, -100])),
        ...options,
      })

    describe('answers', () => {
      it('are the same in pieces, as a stream and as a whole', async () => {
        const generation = model.generate(FRANCE, GREEDY)
        const chunks: GenerationChunk[] = []
        for await (const chunk of generation) chunks.push(chunk)
        const texts: string[] = []
        for await (const text of generation.textStream) texts.push(text)
        const result = await generation
        expect(result.text).toBe('The capital of France is Paris.')
        expect(texts.join('')).toBe(result.text)
        expect(chunks.flatMap(({ tokens }) => tokens)).toEqual(result.tokens)
        expect(chunks.map((chunk) => (chunk.type === 'text' ? chunk.text : '')).join('')).toBe(
          result.text,
        )
        expect(await generation.result).toBe(result)
      })

      it('come while they are being written', async () => {
        const generation = endless()
        let pieces = 0
        for await (const text of generation.textStream) if (text !== '' && ++pieces > 3) break
        generation.abort()
        expect(pieces).toBeGreaterThan(3)
      })

      it('say how they ended, and what they took', async () => {
        const result = await model.generate(FRANCE, GREEDY)
        expect(result).toMatchObject({
          reasoning: '',
          toolCalls: [],
          invalidToolCalls: [],
          rawText: result.text,
          finishReason: 'stop',
        })
        expect(result).not.toHaveProperty('stopString')
        expect(result).not.toHaveProperty('logprobs')
        const { promptTokens, completionTokens, totalTokens, cachedTokens, reasoningTokens } =
          result.usage
        expect(promptTokens).toBe(await model.countTokens(FRANCE))
        expect(completionTokens).toBe(result.tokens.length)
        expect(totalTokens).toBe(promptTokens + completionTokens)
        // Others may have begun alike.
        expect(cachedTokens).toBeLessThan(promptTokens)
        expect(reasoningTokens).toBe(0)
        for (const value of Object.values(result.timings)) expect(value).toBeGreaterThanOrEqual(0)
        expect(result.timings.timeToFirstTokenMs).toBeLessThanOrEqual(result.timings.totalMs)
      })

      it('end at the limit', async () => {
        const result = await model.generate(FRANCE, { ...GREEDY, maxTokens: 3 })
        expect(result).toMatchObject({ finishReason: 'length', usage: { completionTokens: 3 } })
        expect(result.tokens).toHaveLength(3)
        expect('The capital of France is Paris.'.startsWith(result.text)).toBe(true)
      })

      it.each([[' Paris'], ['nce is'], ['never', ' Paris']])(
        'end at a stop string: %o',
        async (...stop) => {
          const last = stop.at(-1) ?? ''
          const result = await model.generate(FRANCE, { ...GREEDY, stop })
          expect(result).toMatchObject({ finishReason: 'stop', stopString: last })
          const [before] = 'The capital of France is Paris.'.split(last)
          expect(result.text).toBe(before)
        },
      )

      it('end at a stop token, which is no part of them', async () => {
        const { tokens } = await model.generate(FRANCE, GREEDY)
        const [, , , token = -1] = tokens
        const result = await model.generate(FRANCE, { ...GREEDY, stopTokens: [token] })
        expect(result).toMatchObject({
          tokens: tokens.slice(0, tokens.indexOf(token)),
          finishReason: 'stop',
          matched: { type: 'token', value: token },
        })
        const limited = { ...GREEDY, stopTokens: [token], maxTokens: tokens.indexOf(token) }
        expect((await model.generate(FRANCE, limited)).finishReason).toBe('length')
      })

      it('do not end before their least length', async () => {
        const whole = await model.generate(FRANCE, GREEDY)
        const minTokens = whole.tokens.length
        const result = await model.generate(FRANCE, { ...GREEDY, minTokens, stop: 'The' })
        expect(result.text).toBe(whole.text)
        expect(result).not.toHaveProperty('matched')
      })

      it('end when their time is up', async () => {
        const result = await endless({ maxTimeMs: 1 })
        expect(result).toMatchObject({
          finishReason: 'length',
          matched: { type: 'time', value: 1 },
        })
      })

      it('are one of some choices, where that is asked for', async () => {
        const responseFormat = { type: 'choice', options: ['Paris', 'Rome'] } as const
        const result = await model.generate(FRANCE, { ...GREEDY, responseFormat })
        expect(responseFormat.options).toContain(result.text)
        const both = model.generate(FRANCE, { responseFormat, bannedStrings: ['Rome'] })
        await expect(both.result).rejects.toMatchObject({ option: 'bannedStrings' })
      })

      it('do not read twice what others have read', async () => {
        await model.clearPrefixCache()
        const first = await model.generate(FRANCE, GREEDY)
        expect(first.usage.cachedTokens).toBe(0)
        const again = await model.generate(FRANCE, GREEDY)
        expect(again.usage.cachedTokens).toBe(again.usage.promptTokens - 1)
        const alone = await model.generate(FRANCE, { ...GREEDY, deterministic: true })
        expect(alone.usage.cachedTokens).toBe(0)
      })

      it('have log-probabilities', async () => {
        const { tokens, logprobs } = await model.generate(FRANCE, { ...GREEDY, logprobs: 2 })
        expect(logprobs?.map(({ token }) => token)).toEqual(tokens)
        for (const { token, logprob, top } of logprobs ?? []) {
          expect(top).toHaveLength(2)
          expect(top[0]).toMatchObject({ token, logprob })
          expect(top[1]?.logprob).toBeLessThan(logprob)
        }
      })

      it('report how the prompt is read', async () => {
        const onPrefill = vi.fn()
        const { usage } = await model.generate(FRANCE, { ...GREEDY, onPrefill })
        const { promptTokens: total, cachedTokens: cached } = usage
        expect(onPrefill).toHaveBeenLastCalledWith({ processed: total, total, cached })
      })

      it('fail with what a callback throws', async () => {
        const mine = new Error('mine')
        const onPrefill = () => {
          throw mine
        }
        await expect(model.generate(FRANCE, { ...GREEDY, onPrefill })).rejects.toBe(mine)
      })

      it('come at the same time', async () => {
        const [france, japan] = await Promise.all([
          model.generate(FRANCE, GREEDY),
          model.generate('What is the capital of Japan?', GREEDY),
        ])
        expect([france.text, japan.text]).toEqual([
          'The capital of France is Paris.',
          'The capital of Japan is Tokyo.',
        ])
      })
    })

    describe('calls of tools', () => {
      const tools: ToolDefinition[] = [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            parameters: {
              type: 'object',
              properties: { city: { type: 'string' } },
              required: ['city'],
            },
          },
        },
      ]

      it('come in pieces: the name first, then the arguments', async () => {
        const generation = model.generate(WEATHER, { ...GREEDY, tools })
        const chunks: GenerationChunk[] = []
        for await (const chunk of generation) if (chunk.type !== 'text') chunks.push(chunk)
        const [start, ...rest] = chunks
        expect(start).toMatchObject({ type: 'tool-call-start', index: 0, name: 'get_weather' })
        expect(rest.pop()).toMatchObject({ type: 'tool-call-end', arguments: { city: 'Paris' } })
        const json = rest.map((it) => (it.type === 'tool-call-delta' ? it.argumentsText : ''))
        expect(json.join('')).toBe('{"city":"Paris"}')
        expect(await generation).toMatchObject({
          text: '',
          finishReason: 'tool-calls',
          toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }],
          rawText: expect.stringMatching(/^<tool_call>[^]*<\/tool_call>$/) as string,
        })
      })

      it('are made where they are required, and end an answer where one is enough', async () => {
        for (const options of [{ toolChoice: 'required' }, { parallelToolCalls: false }] as const) {
          const result = await model.generate(WEATHER, { ...GREEDY, tools, ...options })
          expect(result).toMatchObject({ text: '', finishReason: 'tool-calls' })
          expect(result.toolCalls.map(({ name }) => name)).toEqual(['get_weather'])
        }
      })

      it('are invalid where the limit cuts them off', async () => {
        const result = await model.generate(WEATHER, { ...GREEDY, tools, maxTokens: 8 })
        expect(result).toMatchObject({ toolCalls: [], finishReason: 'length' })
        expect(result.tokens).toHaveLength(8)
        expect(result.invalidToolCalls).toEqual([
          { raw: result.rawText, error: 'the answer ends within the call' },
        ])
      })

      it('are text where nobody asked for them', async () => {
        const options = { ...GREEDY, tools, parseToolCalls: false }
        const result = await model.generate(WEATHER, options)
        expect(result).toMatchObject({ toolCalls: [], finishReason: 'stop' })
        expect(result.text).toMatch(/^<tool_call>[^]*<\/tool_call>$/)
      })
    })

    describe('an abort', () => {
      it('of a generation keeps what was read', async () => {
        const generation = endless()
        let read = ''
        for await (const chunk of generation) {
          if (chunk.type === 'text') read += chunk.text
          if (read.length > 10) generation.abort('enough')
        }
        const result = await generation
        expect(result).toMatchObject({ text: read, finishReason: 'abort', abortReason: 'enough' })
        expect(result.usage.completionTokens).toBe(result.tokens.length)
      })

      it('of a signal ends waiting', async () => {
        const controller = new AbortController()
        const reason = new Error('closed')
        const generation = endless({ signal: controller.signal })
        // Not a matter of how quick the machine is.
        const chunks = generation[Symbol.asyncIterator]()
        await chunks.next()
        const waiting = chunks.next()
        controller.abort(reason)
        await waiting
        expect(await generation).toMatchObject({ finishReason: 'abort', abortReason: reason })
      })

      it('that came before starts nothing', async () => {
        expect(await model.generate(FRANCE, { signal: AbortSignal.abort('early') })).toMatchObject({
          text: '',
          tokens: [],
          finishReason: 'abort',
          abortReason: 'early',
        })
      })

      it('is leaving a loop, or cancelling a stream', async () => {
        const left = endless()
        for await (const { tokens } of left) if (tokens.length > 0) break
        expect((await left).finishReason).toBe('abort')
        const cancelled = endless()
        const reader = cancelled.textStream.getReader()
        await reader.read()
        await reader.cancel()
        expect((await cancelled).finishReason).toBe('abort')
      })
    })

    describe('what is wrong is refused', () => {
      it.each<[GenerateOptions, string]>([
        [{ stop: /^x/ }, 'stop: /^x/ has "^", "$"'],
        [{ stop: /a(?=b)/ }, 'stop: /a(?=b)/ cannot be enforced: it looks ahead'],
        [{ stop: /\bx/ }, 'stop: /\\bx/ cannot be enforced: it asks for the edge of a word'],
        [{ stop: /x*/ }, 'stop: /x*/ matches an empty text'],
        [{ stopTokens: [99_999_999] }, 'stopTokens: 99999999 is outside of the vocabulary of '],
        [
          { responseFormat: { type: 'regex', pattern: '(' } },
          'responseFormat.pattern: is no regular expression: a group is not closed',
        ],
        [
          { responseFormat: { type: 'regex', pattern: '(a)\\1' } },
          'responseFormat.pattern: cannot be enforced: it refers to a group before',
        ],
        [
          { responseFormat: { type: 'choice', options: [] } },
          'responseFormat.options: must have 1 to 10000 options',
        ],
        [{ responseFormat: { type: 'grammar', lark: 'x' } }, 'responseFormat.lark: '],
        [{ speculation: { lookup: false } }, 'speculation: leaves nothing to draft with'],
        [{ toolFormat: 'nope' }, 'toolFormat: is none of '],
        [{ reasoningFormat: 'nope' }, 'reasoningFormat: is none of '],
      ])('by an answer: %o', async (options, message) => {
        await expect((async () => model.generate(FRANCE, options))()).rejects.toMatchObject({
          name: 'NodeMlxError',
          code: 'INVALID_ARGUMENT',
          option: message.replace(/: .*/s, ''),
          message: expect.stringContaining(message) as string,
        })
      })

      it('in messages, tokens and files', async () => {
        const stranger = [{ role: 'x', content: 'y' }] as unknown as Message[]
        await expect((async () => model.generate(stranger))()).rejects.toMatchObject({
          code: 'TEMPLATE_ERROR',
          message: expect.stringContaining('Unknown role: x') as string,
        })
        await expect(model.detokenize([0, 99_999_999])).rejects.toMatchObject({
          option: 'tokens[1]',
          message: expect.stringMatching(/99999999 is outside of the vocabulary of \d+/) as string,
        })
        await expect(model.logits([])).rejects.toMatchObject({
          option: 'tokens',
          message: 'tokens: is empty: at least one token is needed',
        })
        await expect(model.loadAdapter(folder)).rejects.toMatchObject({
          code: 'INVALID_ADAPTER',
          message: expect.stringContaining("so its folder is no adapter's") as string,
        })
        await expect(model.loadPromptCache(join(folder, 'none'))).rejects.toMatchObject({
          code: 'INVALID_PROMPT_CACHE',
          message: expect.stringContaining('there is no such file') as string,
        })
      })

      it('but not a least length above the most', async () => {
        const result = await model.generate(FRANCE, { ...GREEDY, minTokens: 3000, maxTokens: 3 })
        expect(result).toMatchObject({ finishReason: 'length', usage: { completionTokens: 3 } })
      })

      it.each<[object, string, string]>([
        [{ temprature: 1 }, 'temprature', 'is not an option; did you mean temperature?'],
        [{ temperature: 11 }, 'temperature', 'expected a number from 0 to 10, got 11'],
        [{ temperature: '1' }, 'temperature', 'expected a number, got "1"'],
        [{ topP: 0 }, 'topP', 'expected a number above 0 and up to 1, got 0'],
        [{ maxTokens: 1.5 }, 'maxTokens', 'expected a whole number from 1 to 2147483647, got 1.5'],
        [{ kvBits: 5 }, 'kvBits', 'expected one of 4, 8, got 5'],
        [{ logitBias: { 3: 101 } }, 'logitBias[3]', 'expected a number from -100 to 100, got 101'],
        [{ stop: [''] }, 'stop[0]', 'is empty'],
        [{ xtcThreshold: 0.1 }, 'xtcThreshold', 'has no effect without xtcProbability'],
        [{ promptCache: {} }, 'promptCache', 'expected what model.createPromptCache()'],
        [{ signal: 5 }, 'signal', 'expected an AbortSignal, got 5'],
      ])('at once: %o', (options, option, message) => {
        expect(() => model.generate(FRANCE, options)).toThrow(
          expect.objectContaining({
            name: 'NodeMlxError',
            code: 'INVALID_ARGUMENT',
            option,
            message: expect.stringContaining(`${option}: ${message}`) as string,
          }),
        )
      })

      it.each([
        ['', 'prompt'],
        [5, 'prompt'],
        [[], 'prompt'],
        [[{ role: 'usr', content: 'Hi' }], 'prompt[0].role'],
        [[{ role: 'user', content: 5 }], 'prompt[0].content'],
        [{ tokens: [2 ** 31] }, 'prompt.tokens[0]'],
      ])('in a prompt: %o', (prompt, option) => {
        expect(() => model.generate(prompt as string)).toThrow(
          expect.objectContaining({ code: 'INVALID_ARGUMENT', option }),
        )
      })

      it('when the prompt does not fit the context', async () => {
        const { contextLength = 0 } = model.info
        const tokens = new Uint32Array(contextLength).fill(300)
        await expect(model.generate({ tokens }, GREEDY)).rejects.toMatchObject({
          code: 'CONTEXT_OVERFLOW',
          message: `the prompt has ${contextLength} tokens, and the model's context holds ${contextLength}: shorten it`,
        })
      })
    })

    describe('text and tokens', () => {
      it('become each other', async () => {
        const text = 'Once upon a time, there was a fox.\n  Naïve 🦊!'
        const tokens = await model.tokenize(text)
        expect(tokens.length).toBeGreaterThan(5)
        expect(await model.detokenize(tokens)).toBe(text)
        expect(await model.detokenize(Uint32Array.from(tokens))).toBe(text)
      })

      it('go through the chat template', async () => {
        const messages: Message[] = [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: [{ type: 'text', text: FRANCE }] },
        ]
        const prompt = await model.applyChatTemplate(messages)
        expect(prompt).toMatch(/Be brief\.[^]*What is the capital of France\?/)
        expect(prompt.endsWith('<|im_start|>assistant\n')).toBe(true)
        const closed = await model.applyChatTemplate(messages, { addGenerationPrompt: false })
        expect(prompt.startsWith(closed)).toBe(true)
        expect(closed.length).toBeLessThan(prompt.length)
        expect(await model.countTokens(messages)).toBe((await model.tokenize(messages)).length)
        expect(await model.detokenize(await model.tokenize(messages))).toBe(prompt)
      })

      it('describe tools', async () => {
        const tools = [{ type: 'function' as const, function: { name: 'get_weather' } }]
        const messages: Message[] = [{ role: 'user', content: 'Hi' }]
        expect(await model.applyChatTemplate(messages, { tools })).toContain('get_weather')
        expect(await model.countTokens(messages, { tools })).toBeGreaterThan(
          await model.countTokens(messages),
        )
      })

      it('have logits', async () => {
        const { data, shape } = await model.logits([300, 301, 302])
        expect(shape).toEqual([3, model.info.vocabularySize])
        expect(data).toBeInstanceOf(Float32Array)
        expect(data).toHaveLength(3 * model.info.vocabularySize)
        await expect(model.logits([2 ** 31])).rejects.toMatchObject({ option: 'tokens[0]' })
      })
    })

    describe('what is likely', () => {
      it('is what the model would answer', async () => {
        const { text } = await model.generate(FRANCE, GREEDY)
        const choices = ['Bananas, I suppose.', text, 'Seventeen.']
        const decision = await model.decide(FRANCE, choices)
        expect(decision).toMatchObject({ choice: text, index: 1 })
        const shares = Object.values(decision.probabilities)
        expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1)
        const score = await model.score(FRANCE, text)
        expect(score.logprob).toBeCloseTo(decision.logprobs[text] ?? 0, 2)
        expect(score.tokens.map((token) => token.text).join('')).toBe(text)
        expect(score.perplexity).toBeCloseTo(Math.exp(-score.logprob / score.tokens.length))
        const other = await model.score(FRANCE, choices[0])
        expect(other.logprob).toBeLessThan(score.logprob)
      })

      it('is told of a text by itself, and of tokens', async () => {
        const text = 'Once upon a time, there was a fox.'
        const tokens = await model.tokenize(text)
        const score = await model.score(text)
        expect(score.tokens.map(({ token }) => token)).toEqual(tokens.slice(1))
        expect(score.promptTokens).toBe(1)
        const same = await model.score({ tokens: tokens.slice(0, 1) }, { tokens: tokens.slice(1) })
        expect(same.tokens).toHaveLength(tokens.length - 1)
      })

      it('is not told where that is aborted or makes no sense', async () => {
        const signal = AbortSignal.abort(new Error('enough'))
        await expect(model.score('Hi there', undefined, { signal })).rejects.toMatchObject({
          code: 'ABORTED',
          cause: { message: 'enough' },
        })
        const wrong: [Promise<unknown>, string][] = [
          [model.decide(FRANCE, []), 'choices'],
          [model.decide(FRANCE, ['a', 'b', 'a']), 'choices[2]'],
          [model.score(FRANCE, ''), 'continuation'],
          [model.score(FRANCE, { tokens: [2 ** 31] }), 'continuation.tokens[0]'],
          [model.score({ tokens: [5] }, 'a', { now: 0 }), 'now'],
        ]
        for (const [promise, option] of wrong)
          await expect(promise).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option })
      })
    })

    describe('a prompt cache', () => {
      it('spares reading what it holds', async () => {
        const promptCache = model.createPromptCache()
        expect(await promptCache.size()).toEqual({ tokens: 0, bytes: 0 })
        const first = await model.generate(FRANCE, { ...GREEDY, promptCache })
        expect(first.usage.cachedTokens).toBe(0)
        const again = await model.generate(FRANCE, { ...GREEDY, promptCache })
        expect(again.text).toBe(first.text)
        expect(again.usage.cachedTokens).toBe(again.usage.promptTokens - 1)
        const { tokens, bytes } = await promptCache.size()
        expect(tokens).toBeGreaterThanOrEqual(again.usage.promptTokens)
        expect(bytes).toBeGreaterThan(0)
        promptCache.dispose()
        expect(() => model.generate(FRANCE, { promptCache })).toThrow(/disposed of/)
        await expect(promptCache.size()).rejects.toMatchObject({ code: 'DISPOSED' })
      })

      it('can be kept in a file', async () => {
        const path = join(folder, 'cache')
        const promptCache = model.createPromptCache()
        await model.generate(FRANCE, { ...GREEDY, promptCache })
        await promptCache.save(path)
        const loaded = await model.loadPromptCache(path)
        expect((await loaded.size()).tokens).toBe((await promptCache.size()).tokens)
        const { usage } = await model.generate(FRANCE, { ...GREEDY, promptCache: loaded })
        expect(usage.cachedTokens).toBe(usage.promptTokens - 1)
        const other = join(folder, 'other')
        writeFileSync(other, 'no cache')
        await expect(model.loadPromptCache(other)).rejects.toMatchObject({
          code: 'INVALID_PROMPT_CACHE',
        })
      })

      it('serves one generation at a time, and is free after an abort', async () => {
        const promptCache = model.createPromptCache()
        const running = endless({ promptCache })
        for await (const { tokens } of running) {
          if (tokens.length === 0) continue
          await expect(model.generate(FRANCE, { ...GREEDY, promptCache })).rejects.toMatchObject({
            code: 'INVALID_ARGUMENT',
            option: 'promptCache',
          })
          running.abort()
        }
        const { text } = await model.generate(FRANCE, { ...GREEDY, promptCache })
        expect(text).toBe('The capital of France is Paris.')
      })
    })

    it('has facts that nobody can change', () => {
      expect(model.info).toMatchObject({ hasTokenizer: true, hasChatTemplate: true })
      expect(model.info.contextLength).toBeGreaterThan(1000)
      expect(Object.isFrozen(model.info) && Object.isFrozen(model.info.eosTokens)).toBe(true)
    })

    it('is disposed of once, with what runs', async () => {
      const other = await load()
      const running = other.generate('Tell me a story.', { temperature: 0 })
      const cache = other.createPromptCache()
      await expect(model.generate(FRANCE, { promptCache: cache })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        option: 'promptCache',
      })
      const reading = (async () => {
        for await (const { tokens } of running) if (tokens.length > 0) await other.dispose()
      })()
      await expect(reading).rejects.toMatchObject({ code: 'DISPOSED' })
      await other.dispose()
      expect(other.disposed).toBe(true)
      expect(() => other.generate(FRANCE)).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
      await expect(other.tokenize('a')).rejects.toMatchObject({ code: 'DISPOSED' })
      await expect(cache.size()).rejects.toMatchObject({ code: 'DISPOSED' })
      expect(() => other.createPromptCache()).toThrow(/disposed of/)
      expect((await model.generate(FRANCE, GREEDY)).text).toMatch(/Paris/)
    })
  })
}
