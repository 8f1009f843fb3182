// The public JSON Schema test suite: what is generated for its schemas is valid for Ajv.

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormatsModule from 'ajv-formats'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import { NodeMlxError } from '../js/errors.js'
import type { GenerationResult, JsonSchema, Model } from '../js/types.js'
import { ROOT, runProgram } from './support/child.js'

// Its types do not say that its export is the module itself.
const addFormats = addFormatsModule as unknown as (ajv: Ajv2020) => void

interface Group {
  description: string
  schema: JsonSchema
}

let model: Model
let folder: string

beforeAll(async () => {
  model = await loadModel(join(ROOT, 'models', 'demo'), { device: 'cpu' })
  const script = join(ROOT, 'scripts', 'json-schema-suite.mjs')
  const { code, stdout, stderr } = await runProgram(process.execPath, [script])
  expect({ code, stderr }).toMatchObject({ code: 0 })
  folder = stdout
}, 300_000)

afterAll(async () => {
  await model.dispose()
})

/** How to validate by a schema; `undefined` for the few whose references overflow Ajv's stack. */
function validator(schema: JsonSchema): ValidateFunction | undefined {
  // What every object inherits (`toString`) is no property of an answer.
  const ajv = new Ajv2020({ strict: false, validateFormats: true, ownProperties: true })
  addFormats(ajv)
  try {
    return ajv.compile(schema)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** An answer for a schema; `undefined` where the schema is refused. */
async function answer(schema: JsonSchema, seed: number): Promise<GenerationResult | undefined> {
  try {
    return await model.generate('Give me some JSON.', {
      responseFormat: { type: 'json', schema },
      temperature: 1,
      maxTokens: 32,
      seed,
    })
  } catch (error) {
    if (error instanceof NodeMlxError && error.option === 'responseFormat.schema') return undefined
    throw error
  }
}

describe('answers for the schemas of the test suite', () => {
  it('are valid', { timeout: 600_000 }, async () => {
    let [checked, complete] = [0, 0]
    const beyond = new Set<string>()
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.json'))) {
      // Its metaschema switches validation off, and is at no address.
      if (file === 'vocabulary.json') continue
      const groups = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Group[]
      // All at once: they share the model's steps.
      const answered = await Promise.all(
        groups.flatMap((group) =>
          [1, 2].map(async (seed) => ({ group, seed, result: await answer(group.schema, seed) })),
        ),
      )
      for (const { group, seed, result } of answered) {
        if (result === undefined) continue
        if (seed === 1) checked++
        if (result.finishReason !== 'stop') continue
        complete++
        const validate = validator(group.schema)
        const value: unknown = JSON.parse(result.text)
        if (validate === undefined) beyond.add(`${file}: ${group.description}`)
        else expect(validate(value), `${file}: ${group.description}: ${result.text}`).toBe(true)
      }
    }
    expect(checked).toBeGreaterThan(220)
    expect(complete).toBeGreaterThan(150)
    expect(beyond.size).toBeLessThan(4)
  })
})
