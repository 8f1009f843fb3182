import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** Compiles `js/` where it has changed: tests in child processes run `dist/`. */
export default function setup(): void {
  const build = join(__dirname, '..', '..', 'scripts', 'build.mjs')
  execFileSync(process.execPath, [build, '--js'], { stdio: 'inherit' })
}
