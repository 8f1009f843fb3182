// `.cargo/config.toml`: made by set-up, ignored by git, and nobody else's.

import { join } from 'node:path'
import { readText, writeText } from './files.mjs'
import { platform, root, targets } from './project.mjs'
import { Problem } from './run.mjs'

const file = join(root, '.cargo', 'config.toml')
const mark = '# Made by scripts/setup.mjs; changes are lost.\n\n'

/**
 * @napi-rs/cli names the target when it builds the addon, and cargo keeps such builds apart. Naming it always lets tests,
 * linters and the addon share what they compile.
 */
export function buildSection() {
  return `[build]\ntarget = "${targets[platform]}"\n`
}

/** Fails where the file is somebody's own. */
export function checkCargoConfig() {
  if (readText(file)?.startsWith(mark) === false) {
    throw new Problem(`${file} is not ours, and set-up has to write it.`, [
      'Move your settings to the cargo configuration in your home folder, and remove the file.',
    ])
  }
}

/** What set-up wrote, or undefined. */
export function readCargoConfig() {
  const text = readText(file)
  return text?.startsWith(mark) ? text.slice(mark.length) : undefined
}

export function writeCargoConfig(text) {
  writeText(file, mark + text)
}
