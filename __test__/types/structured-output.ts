// The types of answers that a schema describes: compiled by types.test.ts, and never run.

import { toStandardJsonSchema } from '@valibot/to-json-schema'
import { generate, type Generation, type Model, type ResponseFormat } from 'nodemlx'
import * as v from 'valibot'
import { z } from 'zod'

export async function libraries(model: Model): Promise<void> {
  const schema = z.object({ city: z.string(), size: z.string().transform((it) => it.length) })
  const generation = model.generate('Hi', {
    responseFormat: { type: 'json', schema, name: 'city' },
  })
  const named: Generation<{ city: string; size: number }> = generation
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

  const once = generate('demo', 'Hi', { responseFormat: { type: 'json', schema } })
  const city: string | undefined = (await once).object?.city
  console.log(city)
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
