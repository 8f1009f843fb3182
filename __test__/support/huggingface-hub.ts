import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT, runProgram, type Outcome } from './child.js'

const VERSION = '2.4.0'
const FOLDER = join(ROOT, '.build', `huggingface-hub-${VERSION}`)
const PYTHON = join(FOLDER, 'bin', 'python')

/** Installs Python's huggingface_hub into a virtual environment, where that was not done before. */
export async function installHuggingFaceHub(): Promise<void> {
  const done = join(FOLDER, 'installed')
  if (existsSync(done)) return
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', '--clear', FOLDER]],
    [PYTHON, ['-m', 'pip', 'install', '--quiet', `huggingface_hub==${VERSION}`]],
    [PYTHON, ['-c', `open(${JSON.stringify(done)}, 'w')`]],
  ]
  for (const [command, args] of steps) {
    const { code, stderr } = await runProgram(command, args, { timeoutMs: 300_000 })
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
  }
}

/** Runs Python with huggingface_hub. */
export function runPython(source: string, environment: NodeJS.ProcessEnv): Promise<Outcome> {
  return runProgram(PYTHON, ['-c', source], {
    environment: { HF_HUB_DISABLE_XET: '1', HF_HUB_DISABLE_PROGRESS_BARS: '1', ...environment },
  })
}
