import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NEWER_NODE, newerNode } from './app.js'
import { ROOT, runProgram, type Outcome } from './child.js'

/** The clients that people use, in fixed versions; they are installed when they are first needed. */
export const CLIENTS = {
  '@ai-sdk/anthropic': '4.0.105',
  '@ai-sdk/openai': '4.0.118',
  '@ai-sdk/openai-compatible': '3.0.92',
  '@anthropic-ai/sdk': '1.14.0',
  '@langchain/core': '1.4.0',
  '@langchain/openai': '1.6.0',
  '@openai/agents': '0.20.0',
  ai: '7.0.173',
  openai: '7.59.0',
  zod: '4.6.7',
}

/** Outside of what git knows. */
const HOME = join(ROOT, '.build', 'clients')

/** Installs the clients, and a Node.js for them where this one is too old. */
export function installClients(): void {
  // They need a newer Node.js than this package does.
  const dependencies = { ...CLIENTS, ...NEWER_NODE }
  const manifest = JSON.stringify({ private: true, type: 'module', dependencies })
  mkdirSync(HOME, { recursive: true })
  const file = join(HOME, 'package.json')
  if (!existsSync(file) || readFileSync(file, 'utf8') !== manifest) {
    const names = Object.entries(dependencies).map(([name, version]) => `${name}@${version}`)
    const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
    // npm takes what fits a newer Node.js than the one that it runs on.
    flags.push('--no-engine-strict', '--loglevel=error')
    execFileSync('npm', ['install', '--prefix', HOME, ...flags, ...names], {
      cwd: HOME,
      stdio: 'pipe',
    })
    writeFileSync(file, manifest)
  }
  cpSync(join(ROOT, '__test__', 'clients'), HOME, { recursive: true })
}

/** Runs the tests of a client in a process of its own. */
export function runClient(name: string, url: string): Promise<Outcome> {
  const flags = ['--test-reporter=tap', join(HOME, `${name}.mjs`)]
  return runProgram(newerNode(HOME), flags, {
    cwd: HOME,
    environment: { BASE_URL: url, LANGSMITH_TRACING: 'false' },
    timeoutMs: 240_000,
  })
}
