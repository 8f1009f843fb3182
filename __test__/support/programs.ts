import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './child.js'

/** The complete programs on a page of the documentation, by their place on it. */
export function programs(page: string): (readonly [number, string])[] {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8')
  return [...text.matchAll(/^```js\n(.*?)^```$/gms)]
    .map(([, code = '']) => code)
    .filter(isComplete)
    .map((code, index) => [index + 1, code] as const)
}

/** Whether a program imports the package, and all names that it takes for given. */
function isComplete(code: string): boolean {
  const givesPort = !/\bserve\(port\b/.test(code) || /\bport =/.test(code)
  return /^import .* from 'nodemlx/m.test(code) && givesPort
}
