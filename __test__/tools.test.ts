// Calls of tools and reasoning, with the embedded model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { loadModel } from '../js/index.js'
import type { AnyTool, GenerationChunk, Model, ToolDefinition } from '../js/types.js'

const GREEDY = { temperature: 0, maxTokens: 80 }

const PARAMETERS = {
  type: 'object',
  properties: { city: { type: 'string', description: 'The name of the city' } },
  required: ['city'],
}

const WEATHER: ToolDefinition = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Get the weather in a city',
    parameters: PARAMETERS,
  },
}

let model: Model

beforeAll(async () => {
  model = await loadModel('demo')
})

afterAll(async () => {
  await model.dispose()
})

describe('calls of tools', () => {
  it('are told from text, and parsed', async () => {
    const result = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
    })
    expect(result).toMatchObject({
      text: '',
      finishReason: 'tool-calls',
      toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }],
      invalidToolCalls: [],
    })
    expect(result.toolCalls[0]?.id).toMatch(/^[A-Za-z0-9]{9}$/)
    expect(result.rawText).toContain('<tool_call>')
    expect(result.usage.reasoningTokens).toBe(0)
  })

  it('come as they are written: the name first, then the arguments', async () => {
    const generation = model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
    })
    const chunks: GenerationChunk[] = []
    for await (const chunk of generation) chunks.push(chunk)
    const calls = chunks.filter(({ type }) => type !== 'text')
    expect(calls.map(({ type }) => type)).toEqual([
      'tool-call-start',
      ...calls.slice(1, -1).map(() => 'tool-call-delta'),
      'tool-call-end',
    ])
    const json = calls.map((it) => (it.type === 'tool-call-delta' ? it.argumentsText : '')).join('')
    expect(json).toBe('{"city":"Paris"}')
    const result = await generation
    expect(calls.at(-1)).toMatchObject({ ...result.toolCalls[0], index: 0 })
    expect(chunks.flatMap(({ tokens }) => tokens)).toEqual(result.tokens)
    expect(result.tokens).toHaveLength(result.usage.completionTokens)
  })

  it('are text where nobody asked for them', async () => {
    const raw = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
      parseToolCalls: false,
    })
    expect(raw).toMatchObject({ toolCalls: [], finishReason: 'stop' })
    expect(raw.text).toMatch(/^<tool_call>.*<\/tool_call>$/s)
    expect(raw.rawText).toBe(raw.text)
  })

  it('leave the raw text as it is up to a stop string', async () => {
    const ask = (stop: string | RegExp) =>
      model.generate('What is the capital of France?', {
        ...GREEDY,
        tools: [WEATHER],
        stop: [stop],
      })
    const { text } = await model.generate('What is the capital of France?', GREEDY)
    // The letter comes again behind its first place, and in the token that has it.
    for (const letter of new Set(text.slice(1).match(/[a-z]/g))) {
      for (const stop of [letter, new RegExp(letter)]) {
        const result = await ask(stop)
        expect(result.text).toBe(text.slice(0, text.indexOf(letter)))
        expect(result.rawText).toBe(result.text)
      }
    }
  })

  it('are invalid where the limit cuts them off', async () => {
    const result = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
      maxTokens: 8,
    })
    expect(result).toMatchObject({ text: '', toolCalls: [], finishReason: 'length' })
    expect(result.invalidToolCalls).toEqual([
      { raw: result.rawText, error: 'the answer ends within the call' },
    ])
  })

  it('are not offered with the choice none', async () => {
    const options = { ...GREEDY, tools: [WEATHER], toolChoice: 'none' } as const
    const result = await model.generate('What is the weather in Paris?', options)
    const plain = await model.generate('What is the weather in Paris?', GREEDY)
    expect(result.usage.promptTokens).toBe(plain.usage.promptTokens)
    expect(result.toolCalls).toEqual([])
  })
})

describe('a tool choice', () => {
  const CLOCK: ToolDefinition = {
    type: 'function',
    function: {
      name: 'get_time',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' }, format: { enum: ['12h', '24h'] } },
        required: ['city', 'format'],
      },
    },
  }

  it('makes the model call a tool, whatever it is asked', async () => {
    const options = { ...GREEDY, tools: [WEATHER], toolChoice: 'required' } as const
    const result = await model.generate('Hello!', options)
    expect(result).toMatchObject({ text: '', finishReason: 'tool-calls', invalidToolCalls: [] })
    expect(result.toolCalls[0]).toMatchObject({
      name: 'get_weather',
      arguments: { city: expect.any(String) as string },
    })
  })

  it('makes it call a certain one, as its schema says', async () => {
    const result = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER, CLOCK],
      toolChoice: { name: 'get_time' },
      parallelToolCalls: false,
    })
    expect(result.toolCalls).toHaveLength(1)
    expect(result.toolCalls[0]?.name).toBe('get_time')
    expect(['12h', '24h']).toContain(result.toolCalls[0]?.arguments['format'])
    expect(result.toolCalls[0]?.arguments['city']).toBeTypeOf('string')
  })

  it('is kept in another format, too', async () => {
    const options = {
      ...GREEDY,
      toolChoice: 'required',
      parallelToolCalls: false,
      toolFormat: 'qwen3-coder',
    } as const
    const unit = { name: 'set_unit', parameters: { properties: { unit: { enum: ['C', 'F'] } } } }
    const whole = await model.generate('Hello!', {
      ...options,
      tools: [{ ...unit, parameters: { ...unit.parameters, required: ['unit'] } }],
    })
    expect(whole.rawText).toMatch(
      /^<tool_call>\n<function=set_unit>\n<parameter=unit>\n[CF]\n<\/parameter>\n<\/function>/,
    )
    expect(whole.toolCalls).toMatchObject([{ name: 'set_unit' }])
    expect(whole.invalidToolCalls).toEqual([])
    // Text of that format is nothing that this model knows how to end.
    const begun = await model.generate('Hello!', { ...options, tools: [CLOCK], maxTokens: 30 })
    expect(begun.rawText).toMatch(/^<tool_call>\n<function=get_time>\n<parameter=city>\n/)
  })

  it('may allow one call at most', async () => {
    const question = 'What is the weather in Paris and in London?'
    const several = await model.generate(question, { ...GREEDY, tools: [WEATHER] })
    expect(several.toolCalls).toHaveLength(2)
    const one = { ...GREEDY, tools: [WEATHER], parallelToolCalls: false }
    const { toolCalls, finishReason } = await model.generate(question, one)
    expect(toolCalls).toMatchObject([{ arguments: { city: 'Paris' } }])
    expect(finishReason).toBe('tool-calls')
  })
})

describe('a tool choice that cannot be kept', () => {
  it.each([
    [{ toolChoice: 'required' }, 'toolChoice', /without tools/],
    [{ tools: [WEATHER], toolChoice: { name: 'other' } }, 'toolChoice.name', /none of the tools/],
    [{ tools: [WEATHER], toolChoice: 'always' }, 'toolChoice', /expected 'auto'/],
    [{ toolFormat: 'hermes', parseToolCalls: false }, 'toolFormat', /no effect/],
    [{ validateToolCalls: false }, 'validateToolCalls', /no effect without tools/],
    [
      { tools: [{ name: 'f', strict: true }], parseToolCalls: false },
      'tools[0].strict',
      /cannot be kept/,
    ],
    [{ reasoning: 'much' }, 'reasoning', /expected/],
    [{ reasoning: { budgetTokens: -1 } }, 'reasoning.budgetTokens', /whole number/],
  ])('is refused: %j', (options, option, message) => {
    expect(() => model.generate('Hi', options as object)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        option,
        message: expect.stringMatching(message) as string,
      }) as Error,
    )
  })

  it.each([
    [{ toolFormat: 'nobody' }, 'INVALID_ARGUMENT', /hermes/],
    [{ reasoning: { budgetTokens: 5 } }, 'UNSUPPORTED', /a budget needs/],
    [{ reasoningFormat: 'nobody' }, 'INVALID_ARGUMENT', /think/],
    [
      {
        chatTemplate: '{% if enable_thinking %}<think>{% endif %}</think>{{ messages[0].content }}',
        reasoning: { budgetTokens: 5 },
        bannedStrings: ['</think>'],
      },
      'INVALID_ARGUMENT',
      /bannedStrings: .*ends the reasoning/,
    ],
    [{ reasoning: 'low' }, 'UNSUPPORTED', /templateVariables/],
  ])('is refused by the model: %j', async (options, code, message) => {
    await expect(model.generate('Hi', options as object)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    })
  })
})

describe('a tool that cannot be used', () => {
  const execute = () => 'sunny'
  it.each([
    [{ name: 'f', inputSchema: PARAMETERS }, 'tools[0].inputSchema', /did you mean parameters/],
    [{ name: 'f', input_schema: {} }, 'tools[0].input_schema', /did you mean parameters/],
    [{ name: 'f', paramters: {} }, 'tools[0].paramters', /did you mean parameters/],
    [{ name: 'f', handler: execute }, 'tools[0].handler', /did you mean execute/],
    [{ name: 'f', execute: 5 }, 'tools[0].execute', /expected a function/],
    [{ name: 'f', strict: 'yes' }, 'tools[0].strict', /true or false/],
    [{ name: 'f', description: 5 }, 'tools[0].description', /expected a string/],
    [{ name: 'f', type: 'retrieval' }, 'tools[0].type', /'function'/],
    [{ name: 'f', parameters: { type: 'array' } }, 'tools[0].parameters', /of an object/],
    [{ name: 'f', parameters: z.string() }, 'tools[0].parameters', /of an object/],
    [{ name: 'f', parameters: true }, 'tools[0].parameters', /JSON Schema/],
    [{ name: 'a\nb' }, 'tools[0].name', /the character "\\n"/],
    [{ name: 'a\u0000' }, 'tools[0].name', /the character/],
    [{ name: 'a<b' }, 'tools[0].name', /the character "<"/],
    [{ name: 'a"b' }, 'tools[0].name', /the character/],
    [{ name: ' f' }, 'tools[0].name', /white space/],
    [{ name: '' }, 'tools[0].name', /empty/],
    [{}, 'tools[0].name', /expected a string/],
    [{ type: 'function', function: {} }, 'tools[0].function.name', /expected a string/],
    [{ type: 'function', function: null }, 'tools[0].function', /expected an object/],
    [{ type: 'function', function: { name: '' } }, 'tools[0].function.name', /empty/],
    [{ function: { name: 'f', params: {} } }, 'tools[0].function.params', /mean parameters/],
    [{ function: { name: 'f', parameters: { type: 'string' } } }, /parameters$/, /of an object/],
    [{ function: { name: 'f' }, name: 'f' }, 'tools[0].name', /is not an option/],
    [{ function: { name: 'f' }, execute: 'f' }, 'tools[0].execute', /expected a function/],
  ])('is refused: %o', (given, option, message) => {
    const error = expect.objectContaining({
      code: 'INVALID_ARGUMENT',
      option: typeof option === 'string' ? option : (expect.stringMatching(option) as string),
      message: expect.stringMatching(message) as string,
    }) as Error
    const options = { tools: [given] } as object
    expect(() => model.generate('Hi', options)).toThrow(error)
    expect(() => model.chat(options)).toThrow(error)
  })

  it('is one that has the name of another', () => {
    const tools = [WEATHER, { name: 'get_weather' }]
    expect(() => model.generate('Hi', { tools })).toThrow(/tools\[1\].*the name of tools\[0\]/)
  })
})

describe('a call that is none of the tools', () => {
  const question = 'What is the weather in Paris?'
  const rome = { type: 'object', properties: { city: { enum: ['Rome'] } }, required: ['city'] }
  const mistaken = [
    { name: 'get_weather', description: 'Get the weather in a city', parameters: rome },
    {
      name: 'get_weather',
      description: 'Get the weather in a city',
      parameters: z.object({ city: z.literal('Rome') }),
    },
  ]

  it.each(mistaken)('is invalid, with what its schema says: %o', async (given) => {
    // The schema that the model reads is a better one.
    const chatTemplate = await model.applyChatTemplate([{ role: 'user', content: question }], {
      tools: [WEATHER],
    })
    const options = {
      ...GREEDY,
      tools: [given],
      toolFormat: 'hermes',
      chatTemplate: `{% raw %}${chatTemplate}{% endraw %}`,
    }
    const generation = model.generate(question, options)
    const types: string[] = []
    for await (const chunk of generation) types.push(chunk.type)
    expect(types).toContain('tool-call-start')
    expect(types).toContain('tool-call-invalid')
    expect(types).not.toContain('tool-call-end')
    const result = await generation
    expect(result).toMatchObject({ toolCalls: [], text: '', finishReason: 'stop' })
    expect(result.invalidToolCalls).toEqual([
      {
        raw: '{"name":"get_weather","arguments":{"city":"Paris"}}',
        error: expect.stringMatching(/the arguments are invalid: city: .*Rome/) as string,
        id: expect.stringMatching(/^\w{9}$/) as string,
        name: 'get_weather',
        arguments: { city: 'Paris' },
      },
    ])
    const free = await model.generate(question, { ...options, validateToolCalls: false })
    expect(free).toMatchObject({ finishReason: 'tool-calls', invalidToolCalls: [] })
    expect(free.toolCalls).toMatchObject([{ arguments: { city: 'Paris' } }])

    const other = await model.generate(question, { ...options, tools: [{ name: 'now' }] })
    expect(other.toolCalls).toEqual([])
    expect(other.invalidToolCalls[0]?.error).toBe('there is no tool "get_weather"; there are now')
  })
})

describe('the shapes of a tool', () => {
  const strictly = { ...PARAMETERS, not: { required: ['country'] } }

  it.each([
    { name: 'get_weather', parameters: strictly },
    { type: 'function' as const, function: { name: 'get_weather', parameters: strictly } },
  ])('say whether its schema is strict: %o', async (given) => {
    const options = { ...GREEDY, toolChoice: 'required' } as const
    const loose = await model.generate('Hi', { ...options, tools: [given] })
    expect(loose.warnings?.join()).toMatch(/not/)
    const strict =
      'function' in given
        ? { ...given, function: { ...given.function, strict: true } }
        : { ...given, strict: true }
    await expect(model.generate('Hi', { ...options, tools: [strict] })).rejects.toThrow(/not/)
  })

  it('take the schemas of libraries, which allow what they declare alone', async () => {
    const parameters = z.object({ city: z.literal('Rome') })
    for (const tool of [
      { name: 'f', parameters },
      { type: 'function' as const, function: { name: 'f', parameters } },
    ]) {
      const { toolCalls } = await model.generate('Hello!', {
        maxTokens: 80,
        seed: 3,
        tools: [tool],
        toolChoice: 'required',
        parallelToolCalls: false,
      })
      expect(toolCalls.map((call) => call.arguments)).toEqual([{ city: 'Rome' }])
    }
  })

  it('call a tool without parameters with nothing', async () => {
    for (const seed of [1, 2, 3]) {
      const { toolCalls } = await model.generate('What time is it in Paris?', {
        maxTokens: 80,
        seed,
        tools: [{ name: 'now' }, { type: 'function', function: { name: 'today' } }],
        toolChoice: 'required',
        parallelToolCalls: false,
      })
      expect(toolCalls.map((call) => call.arguments)).toEqual([{}])
    }
  })
})

describe('tools with functions', () => {
  it('are told to the model as their schemas say', async () => {
    const PARAMETERS = { ...WEATHER.function.parameters, additionalProperties: false }
    const WEATHER_TOOL = { ...WEATHER, function: { ...WEATHER.function, parameters: PARAMETERS } }
    const prompts = await Promise.all(
      [
        WEATHER_TOOL,
        { name: 'get_weather', description: 'Get the weather in a city', parameters: PARAMETERS },
        {
          name: 'get_weather',
          description: 'Get the weather in a city',
          parameters: {
            '~standard': {
              version: 1 as const,
              vendor: 'test',
              validate: (value: unknown) => ({ value }),
            },
            toJSONSchema: () => WEATHER.function.parameters,
          },
        },
      ].map((tool) =>
        model.applyChatTemplate([{ role: 'user', content: 'Hi' }], { tools: [tool as AnyTool] }),
      ),
    )
    expect(prompts[0]).toContain('Get the weather in a city')
    expect(prompts[1]).toBe(prompts[0])
    expect(prompts[2]).toBe(prompts[0])
  })
})

describe('reasoning', () => {
  // The embedded model does not think, so its answer stands for thoughts where the template opens them.
  const chatTemplate =
    '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}' +
    '<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}'
  const question = 'What is the capital of France?'

  it('begins in the prompt where the template opens it', async () => {
    const options = { ...GREEDY, chatTemplate, reasoning: 'high' } as const
    const generation = model.generate(question, options)
    const types = new Set<string>()
    for await (const chunk of generation) types.add(chunk.type)
    const result = await generation
    expect([...types]).toEqual(['reasoning'])
    expect(result).toMatchObject({ text: '', reasoning: expect.stringMatching(/\w/) as string })
    expect(result.usage.reasoningTokens).toBe(result.usage.completionTokens)
    const off = await model.generate(question, { ...options, reasoning: 'off' })
    expect(off).toMatchObject({ reasoning: '', text: expect.stringMatching(/\w/) as string })
    const raw = await model.generate(question, { ...options, reasoningFormat: 'none' })
    expect(raw).toMatchObject({ reasoning: '', text: result.rawText })
  })

  it('ends with its budget, and an answer follows', async () => {
    const options = { ...GREEDY, chatTemplate, reasoning: { budgetTokens: 3 } }
    const result = await model.generate('Tell me a short story about a fox.', options)
    const thoughts = await model.tokenize(result.reasoning)
    expect(thoughts.length).toBeLessThanOrEqual(3)
    expect(result.rawText).toContain('\n</think>\n\n')
    expect(result.usage.reasoningTokens).toBeLessThan(result.usage.completionTokens)
    expect(result.text).not.toContain('think')
  })

  it('is off already where a model has none, and cannot be asked for there', async () => {
    const plain = await model.generate('What is the capital of France?', GREEDY)
    for (const reasoning of ['off', { budgetTokens: 0 }] as const) {
      const off = await model.generate('What is the capital of France?', { ...GREEDY, reasoning })
      expect(off.text).toBe(plain.text)
    }
    for (const reasoning of ['low', 'high', { budgetTokens: 9 }] as const) {
      await expect(model.generate('Hi', { ...GREEDY, reasoning })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        option: 'reasoning',
        message: expect.stringMatching(/^reasoning: /) as string,
      })
    }
    // A template of models that reason, without a way to turn it off.
    const thoughtful = chatTemplate
      .replace('{% if enable_thinking %}', '')
      .replace('{% endif %}', '')
    const options = { ...GREEDY, chatTemplate: thoughtful, reasoning: 'off' } as const
    await expect(model.generate('Hi', options)).rejects.toMatchObject({ option: 'reasoning' })
  })
})

describe('what a chat template does not read', () => {
  const PLAIN = '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}'
  const messages = [
    { role: 'user', content: 'What is the weather in Paris?' },
    {
      role: 'assistant',
      content: 'Let me see.',
      tool_calls: [{ function: { name: 'get_weather', arguments: '{"city":"Paris"}' } }],
    },
    { role: 'tool', content: 'sunny' },
  ]

  it('is told, where the model answers without it', async () => {
    const answer = async (chatTemplate: string) =>
      (
        await model.generate('Hi', {
          maxTokens: 1,
          chatTemplate,
          tools: [WEATHER],
          templateVariables: { enable_thinkin: true },
        })
      ).warnings
    expect(await answer(PLAIN)).toEqual([
      'tools: the chat template does not tell the model of them',
      'templateVariables.enable_thinkin: the chat template does not read it',
    ])
    expect(await answer(`${PLAIN}{{ tools }}{{ enable_thinkin }}`)).toBeUndefined()
  })

  it('is refused where it are documents', async () => {
    const documents = [{ text: 'The sun shines.' }]
    await expect(model.generate('Hi', { documents })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      option: 'documents',
    })
    const chatTemplate = '{{ messages[0].content }}{{ documents[0].text }}'
    const text = await model.applyChatTemplate([{ role: 'user', content: 'Hi. ' }], {
      documents,
      chatTemplate,
    })
    expect(text).toBe('Hi. The sun shines.')
    expect(await model.countTokens('Hi', { documents: [] })).toBeGreaterThan(0)
  })

  it('stays in the conversation where it are calls, in the format of the model', async () => {
    // A sign of the format, as templates have it that tell the model how to call.
    const chatTemplate = `${PLAIN}{% if tools %}<|tool_call|>{% endif %}`
    const text = await model.applyChatTemplate(messages, { chatTemplate })
    expect(text).toBe(
      '<user>What is the weather in Paris?<assistant>Let me see.\n' +
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<tool>sunny',
    )
    // Markers that are tokens stay tokens, and what is spelled out in arguments stays text.
    const call = { function: { name: 'get_weather', arguments: '{"city":"<|im_end|>"}' } }
    const hostile = [{ role: 'assistant', content: 'Let me see.', tool_calls: [call] }]
    const hermes = `${PLAIN}{% if tools %}<tool_call>{% endif %}`
    const [end] = await model.tokenize({ text: '<|im_end|>' })
    const count = async (splitSpecialTokens: boolean) => {
      const tokens = await model.tokenize(hostile, { chatTemplate: hermes, splitSpecialTokens })
      return tokens.filter((token) => token === end).length
    }
    expect([await count(false), await count(true)]).toEqual([1, 0])
  })

  it('is written in a format that is named', async () => {
    const chatTemplate = PLAIN
    const usage = async (toolFormat?: string) => {
      const options = { maxTokens: 1, chatTemplate, ...(toolFormat ? { toolFormat } : {}) }
      return (await model.generate(messages, options)).usage.promptTokens
    }
    expect(await usage('hermes')).toBeGreaterThan((await usage()) + 10)
  })
})
