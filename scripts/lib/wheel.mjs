// Binary parts that only the Python package index has: downloaded by pip, checked, unpacked.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { packageAdvice } from './advice.mjs'
import { readText, replaceFolder, sha256, writeText } from './files.mjs'
import { buildDir } from './project.mjs'
import { Problem, probe, run } from './run.mjs'

let pip

/** The command that runs pip: Python's own, or that of a private virtual environment. */
async function findPip() {
  if (!probe('python3', ['--version'])) {
    throw new Problem(
      'Python 3 is needed to download MLX, and there is no python3.',
      packageAdvice('python'),
    )
  }
  if (probe('python3', ['-m', 'pip', '--version'])) return ['python3', '-m', 'pip']
  const venv = join(buildDir, 'venv')
  const python = join(venv, 'bin', 'python')
  if (!probe(python, ['-m', 'pip', '--version'])) {
    try {
      await run('python3', ['-m', 'venv', '--clear', venv])
    } catch {
      throw new Problem(
        'pip is needed to download MLX, and this Python has neither pip nor venv.',
        packageAdvice('pip'),
      )
    }
  }
  return [python, '-m', 'pip']
}

/**
 * Downloads a wheel whose hash is known and unpacks it into `folder`. Does nothing where that was
 * done before.
 * @param {{ requirement: string, sha256: string, pipPlatform?: string }} wheel `pipPlatform` names
 *   another platform than this one, as pip does.
 */
export async function unpackWheel(wheel, folder, report = () => {}) {
  const stamp = join(folder, '.wheel')
  if (readText(stamp) === wheel.sha256) return

  pip ??= findPip()
  const [python, ...module] = await pip
  const [name, version] = wheel.requirement.split('==')
  report('downloading')
  await replaceFolder(folder, async (temporary) => {
    const requirements = join(temporary, 'requirements.txt')
    fs.writeFileSync(requirements, `${wheel.requirement} --hash=sha256:${wheel.sha256}\n`)
    const download = ['download', '--no-deps', '--only-binary=:all:', '--require-hashes']
    if (wheel.pipPlatform !== undefined) {
      // The wheels in question hold no modules for Python: any version does.
      download.push('--platform', wheel.pipPlatform, '--python-version', '3.12')
      download.push('--implementation', 'cp')
    }
    const quiet = ['--disable-pip-version-check', '--no-input', '--progress-bar=off']
    await run(python, [...module, ...download, ...quiet, '-r', requirements, '-d', temporary], {
      what: `Downloading ${name} ${version}`,
      env: { PIP_REQUIRE_VIRTUALENV: '0' },
    })
    const file = fs.readdirSync(temporary).find((entry) => entry.endsWith('.whl'))
    if (!file) throw new Problem(`pip downloaded no wheel of ${name} ${version}.`)
    const path = join(temporary, file)
    const found = await sha256(path)
    if (found !== wheel.sha256) {
      throw new Problem(
        `${file} has the SHA-256 ${found}, and not ${wheel.sha256}: it is not used.`,
      )
    }
    report('unpacking')
    await run(python, ['-m', 'zipfile', '-e', path, temporary], { what: `Unpacking ${file}` })
    fs.rmSync(path)
    fs.rmSync(requirements)
    writeText(join(temporary, '.wheel'), wheel.sha256)
  })
}
