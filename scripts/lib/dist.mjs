// The JavaScript that is published: `js/` compiled into `dist/`.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { filesUnder, readText, replaceFolder, writeText } from './files.mjs'
import { keyOf, root } from './project.mjs'
import { run } from './run.mjs'

const dist = join(root, 'dist')
const stampFile = join(dist, '.stamp')

function sourcesKey() {
  const configs = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json']
  const files = [...configs.map((name) => join(root, name)), ...filesUnder(join(root, 'js'))]
  return keyOf(...files.flatMap((path) => [path, fs.readFileSync(path)]))
}

/** Compiles `js/` where it has changed. */
export async function ensureDist() {
  const key = sourcesKey()
  if (readText(stampFile) === key) return
  await replaceFolder(dist, async (temporary) => {
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
    await run(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', temporary], {
      cwd: root,
      what: 'Compiling js/',
    })
    fs.chmodSync(join(temporary, 'cli', 'main.js'), 0o755)
    writeText(join(temporary, '.stamp'), key)
  })
}
