// The JavaScript that is published: `js/` compiled into `dist/`, as CommonJS for Node.js and in
// `dist/esm/` as modules for bundlers.

import * as fs from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { filesUnder, readText, replaceFolder, writeText } from './files.mjs'
import { keyOf, root } from './project.mjs'
import { run } from './run.mjs'

const dist = join(root, 'dist')
const stampFile = join(dist, '.stamp')

/** Files of which bundlers get this form instead of the one that ends in .ts. */
const forBundlers = new Set(['installation.mts'])

function sourcesKey() {
  const configs = [
    'scripts/lib/dist.mjs',
    'index.d.ts',
    'tsconfig.json',
    'tsconfig.build.json',
    'package-lock.json',
  ]
  const files = [...configs.map((name) => join(root, name)), ...filesUnder(join(root, 'js'))]
  return keyOf(...files.flatMap((path) => [path, fs.readFileSync(path)]))
}

/** The chat page: a program for browsers, which is compiled on its own. */
const PAGE = 'js/server/page'

/** The files of the chat page that are served as they are. */
function copyPage(out) {
  const source = join(root, PAGE)
  for (const name of fs.readdirSync(source)) {
    if (/\.(?:html|css|svg)$/.test(name)) fs.copyFileSync(join(source, name), join(out, name))
  }
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
    await run(
      process.execPath,
      [tsc, '-p', PAGE, '--noEmit', 'false', '--outDir', join(temporary, 'server', 'page')],
      {
        cwd: root,
        what: 'Compiling the chat page',
      },
    )
    copyPage(join(temporary, 'server', 'page'))
    fs.chmodSync(join(temporary, 'cli', 'main.js'), 0o755)
    compileModules(join(temporary, 'esm'))
    writeText(join(temporary, '.stamp'), key)
  })
}

/**
 * A bundler that makes a module cannot take CommonJS that requires Node's own modules, hence this
 * second form. Types were checked before.
 */
function compileModules(out) {
  const ts = createRequire(import.meta.url)('typescript')
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
  const sources = filesUnder(join(root, 'js')).map((path) => relative(join(root, 'js'), path))
  for (const path of sources) {
    // The command line and the page are never bundled; index.mts and the like are for Node.js, which takes
    // CommonJS.
    if (
      path.startsWith('cli/') ||
      path.startsWith('server/page/') ||
      (path.endsWith('.mts') && !forBundlers.has(path))
    )
      continue
    if (forBundlers.has(path.replace(/ts$/, 'mts'))) continue
    const source = fs.readFileSync(join(root, 'js', path), 'utf8')
    const { outputText } = ts.transpileModule(source, { compilerOptions, fileName: path })
    writeText(join(out, path.replace(/m?ts$/, 'js')), outputText)
  }
  writeText(join(out, 'package.json'), '{ "type": "module" }\n')
}
