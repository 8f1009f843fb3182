import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './child.js'

/** A piece of JavaScript on a page of the documentation. */
export interface Snippet {
  /** Below the project's folder. */
  page: string
  /** Where it begins on the page. */
  line: number
  code: string
}

/** The README and all pages of the documentation. */
export function pages(): string[] {
  const names = readdirSync(join(ROOT, 'docs'), { recursive: true }).map(String).sort()
  return [
    'README.md',
    ...names.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`),
  ]
}

/** All pieces of JavaScript and TypeScript on a page. */
export function snippets(page: string): Snippet[] {
  const text = readFileSync(join(ROOT, page), 'utf8')
  return [...text.matchAll(/^```(?:js|ts|javascript|typescript|mjs|jsx|tsx)\n(.*?)^```$/gms)].map(
    ({ index, 1: code = '' }) => ({
      page,
      line: text.slice(0, index).split('\n').length + 1,
      code,
    }),
  )
}

/** What a snippet imports from. */
export function imports(code: string): string[] {
  return [...code.matchAll(/^import .* from '([^']+)'/gm)].map(([, name = '']) => name)
}

/** What of these names a snippet uses without having made it. */
export function givenNames(code: string, names: readonly string[]): string[] {
  return names.filter((name) => {
    const makes = new RegExp(
      `^(?:const|let|(?:async )?function|import)\\b[^=(\\n]*\\b${name}\\b`,
      'm',
    )
    return new RegExp(`(?<![.\\w'/-])${name}\\b(?!:)`).test(code) && !makes.test(code)
  })
}

/** The programs on a page that import the package, by their lines. */
export function programs(page: string): (readonly [number, string])[] {
  return snippets(page)
    .filter(({ code }) => imports(code).some((name) => name.startsWith('nodemlx')))
    .map(({ line, code }) => [line, code] as const)
}
