// Installs Python's mlx-lm into an environment of its own, and prints the path of its interpreter.
import { execFileSync } from 'node:child_process'
import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const VERSION = '0.32.2'
const build = join(import.meta.dirname, '..', '.build')
const interpreter = (environment) => join(environment, 'bin', 'python')

/** Whether an environment has that version. */
function has(environment) {
  const isThere = `m.version('mlx-lm') == '${VERSION}'`
  const source = `import importlib.metadata as m; raise SystemExit(not ${isThere})`
  try {
    execFileSync(interpreter(environment), ['-c', source], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const own = join(build, `mlx-lm-${VERSION}`)
// The oracle's has it, too.
let found = [own, join(build, 'oracle-venv')].find(has)
if (found === undefined) {
  const partial = `${own}.${process.pid}`
  const run = (command, ...args) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const packages = [`mlx-lm==${VERSION}`, 'mlx==0.32.2']
  if (process.platform === 'linux') packages.push('mlx-cpu==0.32.2')
  try {
    run('python3', '-m', 'venv', partial)
    run(interpreter(partial), '-m', 'pip', 'install', '--quiet', '--no-compile', ...packages)
    rmSync(own, { recursive: true, force: true })
    renameSync(partial, own)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    // Another process may have been faster.
    if (!has(own)) throw error
  }
  found = own
}
process.stdout.write(interpreter(found))
