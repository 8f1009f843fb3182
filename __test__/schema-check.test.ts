// What JSON schemas allow, as Ajv sees it.

import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { schemaProblem } from '../js/schema-check.js'

const SCHEMAS: object[] = [
  {},
  { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
  { type: 'object', properties: { a: {} }, additionalProperties: false },
  { additionalProperties: { type: 'integer' }, minProperties: 1 },
  { patternProperties: { '^a': { minimum: 1 } }, propertyNames: { maxLength: 2 } },
  { properties: { a: { type: ['string', 'null'] }, b: { enum: ['x', 2, null, { c: [1] }] } } },
  { properties: { a: { const: { c: [1] } }, b: { not: { type: 'string' } } } },
  { properties: { a: { type: 'number', exclusiveMinimum: 0, maximum: 2, multipleOf: 0.5 } } },
  { properties: { a: { type: 'integer', minimum: 1, exclusiveMaximum: 3 } } },
  { properties: { a: { minLength: 2, maxLength: 2, pattern: '^.x?' } } },
  { properties: { a: { type: 'array', items: { type: 'string' }, minItems: 1, maxItems: 2 } } },
  { properties: { a: { prefixItems: [{ type: 'string' }], items: { type: 'number' } } } },
  { properties: { a: { uniqueItems: true, contains: { const: 1 }, maxContains: 1 } } },
  { properties: { a: { $ref: '#/$defs/x~1y' } }, $defs: { 'x/y': { type: 'string' } } },
  { properties: { a: { $ref: '#' }, b: { type: 'string' } } },
  { allOf: [{ required: ['a'] }, { required: ['b'] }] },
  { properties: { a: { anyOf: [{ type: 'string' }, { type: 'null' }] } } },
  { properties: { a: { oneOf: [{ type: 'number' }, { minimum: 2 }] } } },
  { if: { required: ['a'] }, then: { required: ['b'] }, else: { maxProperties: 1 } },
  { dependentRequired: { a: ['b'] }, dependentSchemas: { b: { required: ['a'] } } },
  { properties: { a: false, b: true } },
]

const VALUES: unknown[] = [
  ...['x', 'xy', '👋', '', 0, 0.3, 1, 1.5, 2, 3, null, true, [], ['x'], ['x', 1], [1, 1], [1, 2]],
  ...[{}, { c: [1] }, { a: 'x' }, { b: 5 }, ['x', 'y', 'z'], { b: 'x' }],
].flatMap((a) => [{ a }, { b: a }, { a, b: 2 }, { xyz: a }])

describe('a value', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  it.each(SCHEMAS)('is allowed by %j, or not', (schema) => {
    const validate = ajv.compile(schema)
    for (const value of [{}, ...VALUES])
      expect(schemaProblem(schema, value) === undefined, JSON.stringify(value)).toBe(
        validate(value),
      )
  })

  it.each([
    [{ required: ['city'] }, {}, 'city: is missing'],
    [
      { properties: { a: { items: { type: 'string' } } } },
      { a: [1] },
      /a\.0: expected string, got/,
    ],
    [{ additionalProperties: false }, { b: 1 }, 'b: is not expected'],
    [{ properties: { a: { anyOf: [{ type: 'null' }, { const: 1 }] } } }, { a: 2 }, /a: .*, or a: /],
    [{ properties: { a: { maxLength: 1 } } }, { a: 'xy' }, 'a: expected at most 1 characters'],
  ])('that %j refuses is told where: %j', (schema, value, problem) => {
    expect(schemaProblem(schema, value)).toMatch(problem)
  })

  it('is a multiple up to the rounding of a division', () => {
    expect(schemaProblem({ multipleOf: 0.1 }, 0.3)).toBeUndefined()
    expect(schemaProblem({ multipleOf: 0.1 }, 0.35)).toMatch(/multiple of 0.1/)
  })

  it('is looked at once by each part of a schema, however many ways lead there', () => {
    const $defs: Record<string, unknown> = { d40: { type: 'boolean' } }
    for (let i = 0; i < 40; i++) {
      const next = { $ref: `#/$defs/d${i + 1}` }
      $defs[`d${i}`] = { anyOf: [next, { allOf: [next] }] }
    }
    const problem = schemaProblem({ $ref: '#/$defs/d0', $defs }, 5)
    expect(problem).toMatch(/^expected boolean, got number, or /)
    expect(problem?.length).toBeLessThan(3000)
  })

  it('is allowed by what cannot be followed', () => {
    const endless = { $ref: '#' }
    for (const schema of [endless, { $ref: 'https://example.com/x' }, { pattern: '(' }])
      expect(schemaProblem(schema, 'x')).toBeUndefined()
    let deep: unknown = 1
    for (let i = 0; i < 5000; i++) deep = { deep }
    expect(schemaProblem({ additionalProperties: { $ref: '#' } }, deep)).toBeUndefined()
  })
})
