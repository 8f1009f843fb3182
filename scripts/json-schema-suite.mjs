// Downloads the public JSON Schema test suite, which Python's jsonschema has in its source
// distribution, and prints the folder of its draft 2020-12.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const VERSION = '4.26.0'
const folder = join(import.meta.dirname, '..', '.build', `json-schema-suite-${VERSION}`)
const suite = join(folder, 'json', 'tests', 'draft2020-12')

if (!existsSync(suite)) {
  const partial = `${folder}.${process.pid}`
  const run = (command, ...args) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  mkdirSync(partial, { recursive: true })
  try {
    const environment = join(partial, 'python')
    run('python3', '-m', 'venv', environment)
    const python = join(environment, 'bin', 'python')
    const source = ['--no-deps', '--no-binary', 'jsonschema', `jsonschema==${VERSION}`]
    run(python, '-m', 'pip', 'download', '--quiet', '--dest', partial, ...source)
    const archive = readdirSync(partial).find((name) => name.endsWith('.tar.gz'))
    run('tar', '-xzf', join(partial, archive), '-C', partial, '--strip-components=1')
    rmSync(environment, { recursive: true })
    rmSync(folder, { recursive: true, force: true })
    renameSync(partial, folder)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    // Another process may have been faster.
    if (!existsSync(suite)) throw error
  }
}
process.stdout.write(suite)
