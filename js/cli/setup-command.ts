import { spawnSync } from 'node:child_process'
import { VERSION } from '../version.js'
import type { Arguments } from './arguments.js'
import { CUDA_WHEELS, headers, libraries } from './doctor/cuda.js'
import { findPip, howToGetPip, pipArguments, shellLine } from './doctor/pip.js'
import { CUDA_PACKAGE, surroundings, type Surroundings } from './doctor/surroundings.js'
import { EXIT, UsageError } from './errors.js'
import { write } from './output.js'

const TYPE_AND_REPEAT = 'Type this, then run the same command again:'

/** `nodemlx setup cuda`: puts NVIDIA's libraries where MLX looks for them. */
export async function setupCommand({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.join(' ') !== 'cuda')
    throw new UsageError('say what to set up: nodemlx setup cuda', 'setup')
  const around = surroundings()
  if (around.platform !== 'linux-x64') {
    throw new Error(`CUDA is for Linux on x86-64; this is ${around.platform}.`)
  }
  const { cudaPackage } = around
  if (cudaPackage === undefined) {
    throw new Error(
      'The package that computes with CUDA is not installed. ' +
        `${TYPE_AND_REPEAT}\n  npm install ${CUDA_PACKAGE}@${VERSION}`,
    )
  }
  const missing = missingParts(around)
  if (missing.length === 0 && !flags.has('force') && !flags.has('dry-run')) {
    process.stderr.write('All that CUDA needs is there already.\n')
    return EXIT.ok
  }
  const pip = findPip(around)
  const args = pipArguments(cudaPackage, CUDA_WHEELS)
  if (flags.has('dry-run')) {
    await write(`${shellLine([...(pip ?? ['python3', '-m', 'pip']), ...args])}\n`)
    return EXIT.ok
  }
  if (pip === undefined) {
    throw new Error(
      `There is no pip, which gets NVIDIA's libraries. ` +
        `${TYPE_AND_REPEAT}\n  ${howToGetPip(around)}\n` +
        'Or, with a pip on another machine like this one, type there, and copy the folder here:' +
        `\n  ${shellLine(['pip', ...args])}`,
    )
  }
  return install(pip, args, around)
}

function install(
  [command, ...first]: readonly [string, ...string[]],
  args: readonly string[],
  around: Surroundings,
): number {
  process.stderr.write(`${shellLine([command, ...first, ...args])}\n`)
  const { status, error } = spawnSync(command, [...first, ...args], {
    // What pip says is not this command's result.
    stdio: ['ignore', 2, 2],
    env: { ...process.env, PIP_REQUIRE_VIRTUALENV: '0', PIP_USER: '0' },
  })
  if (error !== undefined || status !== 0) {
    const why = error?.message ?? `status ${status ?? 'none'}`
    throw new Error(`pip could not install them (${why}); what it said is above.`)
  }
  const missing = missingParts(around)
  if (missing.length > 0)
    throw new Error(`pip succeeded, and there is still no ${missing.join(', ')}.`)
  process.stderr.write('All that CUDA needs is there. See "nodemlx doctor".\n')
  return EXIT.ok
}

/** The libraries and headers that are not there. */
function missingParts(around: Surroundings): string[] {
  const absent = libraries(around).filter(({ path }) => path === undefined)
  return [...absent.map(({ name }) => name), ...headers(around).missing]
}
