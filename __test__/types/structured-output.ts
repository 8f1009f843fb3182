// The types of answers that a schema describes: compiled by types.test.ts, and never run.

import { toStandardJsonSchema } from '@valibot/to-json-schema'
import { type as arkType } from 'arktype'
import {
  generate,
  tool,
  type AnyTool,
  type Chat,
  type GeneratedToolCall,
  type Generation,
  type Model,
  type ResponseFormat,
  type Tool,
} from 'nodemlx'
import * as v from 'valibot'
import { z } from 'zod'

export async function libraries(model: Model): Promise<void> {
  const schema = z.object({ city: z.string(), size: z.string().transform((it) => it.length) })
  const generation = model.generate('Hi', {
    responseFormat: { type: 'json', schema, name: 'city' },
  })
  const named: Generation<{ city: string; size: number }> = generation
  for await (const chunk of generation) {
    if (chunk.type !== 'object') continue
    const grown: string | undefined = chunk.object.city
    console.log(grown, chunk.tokens.length)
    // @ts-expect-error -- there is no such property
    console.log(chunk.object.country)
  }
  const { object, incomplete, warnings } = await named
  const size: number | undefined = object?.size
  console.log(size, incomplete?.at, incomplete?.missing, warnings?.join())
  for await (const partial of generation.partialObjectStream) {
    const city: string | undefined = partial.city
    console.log(city)
  }
  // @ts-expect-error -- it may have been broken off
  console.log(object.city)
  // @ts-expect-error -- there is no such property
  console.log(object?.country)

  const ofValibot = toStandardJsonSchema(v.object({ ages: v.array(v.number()) }))
  const ages = (await model.generate('Hi', { responseFormat: { type: 'json', schema: ofValibot } }))
    .object?.ages
  console.log(ages?.[0]?.toFixed())

  const ofArkType = arkType({ name: 'string', 'age?': 'number' })
  const { object: person } = await model.generate('Hi', {
    responseFormat: { type: 'json', schema: ofArkType },
  })
  const name: string | undefined = person?.name
  console.log(name, person?.age?.toFixed())
  // @ts-expect-error -- there is no such property
  console.log(person?.height)

  const once = generate('demo', 'Hi', { responseFormat: { type: 'json', schema } })
  const city: string | undefined = (await once).object?.city
  console.log(city)
}

export async function chats(model: Model): Promise<void> {
  const schema = z.object({ city: z.string() })
  const chat: Chat<{ city: string }> = model.chat({ responseFormat: { type: 'json', schema } })
  const answers = [
    await chat.send('Hi'),
    await chat.retry({ at: -1 }),
    await chat.fork({ at: 0 }).continue(),
  ]
  const cities: (string | undefined)[] = answers.map(({ object }) => object?.city)
  const ages = arkType({ age: 'number' })
  const other = await chat.send('Hi', { responseFormat: { type: 'json', schema: ages } })
  console.log(cities, other.object?.age.toFixed())
  // @ts-expect-error -- that is the other format's
  console.log(other.object?.city)
  const free = await model.chat().send('Hi')
  // @ts-expect-error -- nothing is known of it
  console.log(free.object.city)
}

export function tools(model: Model): void {
  const weather: Tool<{ city: string; days: number }> = tool({
    name: 'weather',
    parameters: z.object({ city: z.string(), days: z.string().transform(Number) }),
    execute: ({ city, days }, { id }) => `${city.trim()} ${days.toFixed()} ${id}`,
  })
  const ofArkType = tool({
    name: 'ark',
    parameters: arkType({ name: 'string' }),
    execute: ({ name }) => name.trim(),
  })
  const ofValibot = tool({
    name: 'valibot',
    parameters: toStandardJsonSchema(v.object({ ages: v.array(v.number()) })),
    execute: ({ ages }) => ages.map((age) => age.toFixed()),
  })
  const ofJsonSchema = tool({
    name: 'json',
    parameters: { type: 'object', properties: { a: { type: 'string' } } },
    execute: (args) => Object.keys(args),
  })
  model.chat({ tools: [weather, ofArkType, ofValibot, ofJsonSchema] })
  tool({
    name: 'wrong',
    parameters: z.object({ city: z.string() }),
    // @ts-expect-error -- there is no such argument
    execute: ({ country }) => String(country),
  })
  // @ts-expect-error -- a tool has a name
  tool({ parameters: {} })
}

export function inlineTools(model: Model): void {
  model.chat({
    tools: [
      {
        name: 'weather',
        parameters: z.object({ city: z.string(), days: z.string().transform(Number) }),
        execute: ({ city, days }, { id, signal }) =>
          [city.toUpperCase(), days.toFixed(), id, signal.aborted].join(),
      },
      {
        type: 'function',
        function: { name: 'openai', parameters: arkType({ n: 'number' }) },
        execute: async ({ n }) => Promise.resolve(n.toFixed()),
      },
      {
        name: 'json',
        parameters: { type: 'object', properties: { q: { type: 'string' } } },
        execute: ({ q }: { q: string }) => q.trim(),
      },
      { name: 'now', strict: true, execute: () => Date.now() },
      tool({ name: 't', parameters: z.object({ d: z.number() }), execute: ({ d }) => d.toFixed() }),
    ],
    onToolCall: ({ name }) => name !== 'now',
  })
  const schema = z.object({ sunny: z.boolean() })
  const chat: Chat<{ sunny: boolean }> = model.chat({
    tools: [
      {
        name: 'weather',
        parameters: z.object({ city: z.string() }),
        execute: ({ city }) => city.trim(),
      },
    ],
    responseFormat: { type: 'json', schema },
  })
  const tools: AnyTool[] = []
  model.chat({ tools, system: 'Be brief.' })
  console.log(chat)
  model.chat({
    tools: [
      {
        name: 'wrong',
        parameters: z.object({ city: z.string() }),
        // @ts-expect-error -- there is no such argument
        execute: ({ country }) => String(country),
      },
    ],
  })
  // @ts-expect-error -- a tool has a name
  model.chat({ tools: [{ parameters: {} }] })
  // @ts-expect-error -- no such option
  model.chat({ sistem: 'Be brief.' })
}

export async function calls(model: Model): Promise<void> {
  const weather = tool({
    name: 'weather',
    parameters: z.object({ city: z.string(), days: z.string().transform(Number) }),
    execute: ({ days }) => days.toFixed(),
  })
  const json = {
    type: 'function',
    function: { name: 'json', parameters: { type: 'object' } },
  } as const
  const sum = tool({ name: 'sum', execute: ({ a, b }: { a: number; b: number }) => a + b })
  const { toolCalls } = await model.generate('Hi', { tools: [weather, json, sum] })
  for (const call of toolCalls) {
    const id: string = call.id
    if (call.name === 'weather') {
      // What the model wrote, before the schema has transformed it.
      const days: string = call.arguments.days
      console.log(id, call.arguments.city.trim(), days)
      // @ts-expect-error -- there is no such argument
      console.log(call.arguments.country)
    } else if (call.name === 'sum') {
      console.log(call.arguments.a + call.arguments.b)
    } else {
      const name: 'json' = call.name
      const value: unknown = call.arguments['any']
      console.log(name, value)
    }
  }
  // @ts-expect-error -- there is no such tool
  console.log(toolCalls.filter((call) => call.name === 'other'))

  const schema = z.object({ city: z.string() })
  const responseFormat = { type: 'json', schema } as const
  const both = await model.generate('Hi', { tools: [weather], responseFormat })
  console.log(both.object?.city, both.toolCalls[0]?.arguments.city)
  const [once] = (await generate('demo', 'Hi', { tools: [weather] })).toolCalls
  console.log(once?.arguments.city)

  for await (const item of model.generateBatch(['Hi'], { tools: [weather], responseFormat })) {
    if (item.result === undefined) continue
    console.log(item.result.object?.city, item.result.toolCalls[0]?.arguments.city)
    // @ts-expect-error -- there is no such property
    console.log(item.result.object?.country)
  }

  const tools: AnyTool[] = [weather, json]
  const [any] = (await model.generate('Hi', { tools })).toolCalls
  const anyCall: GeneratedToolCall | undefined = any
  console.log(anyCall?.arguments['city'])
}

export async function chatCalls(model: Model): Promise<void> {
  const sum = tool({
    name: 'sum',
    parameters: arkType({ a: 'number' }),
    execute: ({ a }) => a.toFixed(),
  })
  const chat = model.chat({
    tools: [
      {
        name: 'weather',
        parameters: z.object({ city: z.string(), days: z.string().transform(Number) }),
        execute: ({ days }) => days.toFixed(),
      },
      {
        type: 'function',
        function: { name: 'shape', parameters: z.object({ n: z.number() }) },
      },
      { name: 'json', parameters: { type: 'object' }, execute: () => Date.now() },
      sum,
    ],
    onToolCall: (call) => {
      // What the model wrote, before the schema has transformed it.
      if (call.name === 'weather') return call.arguments.days.trim() !== ''
      if (call.name === 'sum') return call.arguments.a > 0
      const name: 'shape' | 'json' = call.name
      return name
    },
  })
  const answers = [chat.send('Hi'), chat.retry(), chat.fork().continue({ maxTokens: 3 })]
  for (const answer of answers) {
    for await (const chunk of answer) {
      if (chunk.type !== 'tool-call-end') continue
      const { index, tokens } = chunk
      if (chunk.name === 'shape') console.log(index, tokens, chunk.id, chunk.arguments.n.toFixed())
      // @ts-expect-error -- there is no such tool
      if (chunk.name === 'other') console.log(index)
    }
    for (const call of (await answer).toolCalls) {
      if (call.name === 'weather') console.log(call.arguments.city.trim())
      else if (call.name === 'json') console.log(call.arguments['any'])
      // @ts-expect-error -- there is no such argument
      if (call.name === 'weather') console.log(call.arguments.country)
    }
  }
  const schema = z.object({ sunny: z.boolean() })
  const responseFormat = { type: 'json', schema } as const
  const { object, toolCalls } = await chat.send('Hi', { responseFormat })
  console.log(object?.sunny, toolCalls[0]?.name.trim())
  const own = await chat.send('Hi', { tools: [sum] })
  console.log(own.toolCalls[0]?.arguments.a.toFixed(), own.object)
  const both = await chat.send('Hi', { tools: [sum], responseFormat })
  console.log(both.toolCalls[0]?.arguments.a.toFixed(), both.object?.sunny)

  const tools: AnyTool[] = [sum]
  for (const any of [model.chat({ tools }), model.chat(), model.chat({ system: 'Be brief.' })]) {
    const [call] = (await any.send('Hi')).toolCalls
    const anyCall: GeneratedToolCall | undefined = call
    console.log(anyCall?.arguments['a'])
  }
  for await (const chunk of model.generate('Hi', { tools: [sum] }))
    if (chunk.type === 'tool-call-end') console.log(chunk.arguments.a.toFixed())
}

export async function others(model: Model): Promise<void> {
  const schema = { type: 'object', properties: { a: { enum: ['x'] } } } as const
  const { object } = await model.generate('Hi', { responseFormat: { type: 'json', schema } })
  // @ts-expect-error -- a JSON schema gives no type
  console.log(object.a)
  const formats: ResponseFormat[] = [
    { type: 'text' },
    { type: 'json' },
    { type: 'json', schema: { type: 'string' }, strict: false },
    { type: 'regex', pattern: /a/ },
    { type: 'regex', pattern: 'a' },
    { type: 'choice', options: ['a', 'b'] },
    { type: 'grammar', lark: 'start: "a"' },
  ]
  for (const responseFormat of formats)
    console.log((await model.generate('Hi', { responseFormat })).text)
  // @ts-expect-error -- there is no such type
  model.generate('Hi', { responseFormat: { type: 'xml' } })
  // @ts-expect-error -- a choice needs options
  model.generate('Hi', { responseFormat: { type: 'choice' } })
}
