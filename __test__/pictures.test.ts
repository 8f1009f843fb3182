// The pictures of the documentation say what it says.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { ROOT } from './support/child.js'

it('the picture of the benchmarks has the figures of their page', async () => {
  const script = pathToFileURL(join(ROOT, 'scripts', 'lib', 'benchmarks-picture.mjs')).href
  const { benchmarksPicture } = (await import(script)) as {
    benchmarksPicture: (page: string) => string
  }
  const read = (name: string): string => readFileSync(join(ROOT, 'docs', name), 'utf8')
  // "npm run pictures" makes it anew.
  expect(read('benchmarks.svg')).toBe(benchmarksPicture(read('benchmarks.md')))
  expect(() =>
    benchmarksPicture(
      read('benchmarks.md').replace(/(?<=^\| decode after 256 tokens \|) [\d.]+/m, ' –'),
    ),
  ).toThrow('no figure')
})
