#!/usr/bin/env node
// npm run docs: the documentation as a site in .build/docs/site, out of docs/, examples/ and the
// types, with every link checked. Its tools are installed into .build/ when they are first needed.

import * as fs from 'node:fs'
import { basename, join, relative } from 'node:path'
import { copyFile, filesUnder, readText, replaceFolder, writeText } from './lib/files.mjs'
import { brokenLinks } from './lib/links.mjs'
import { buildDir, root } from './lib/project.mjs'
import { Problem, fail, run } from './lib/run.mjs'

const home = join(buildDir, 'docs')
const pages = join(home, 'pages')
const site = join(home, 'site')

const TOOLS = { typedoc: '0.28.20', 'typedoc-plugin-markdown': '4.14.1', vitepress: '1.6.4' }

/** What the API's pages are made of: the entry points of the package. */
const ENTRIES = ['index', 'server/index', 'ai-sdk/index', 'client/index', 'testing/index']

async function installTools() {
  const manifest = JSON.stringify({ private: true, type: 'module', dependencies: TOOLS })
  if (readText(join(home, 'package.json')) === manifest) return
  const names = Object.entries(TOOLS).map(([name, version]) => `${name}@${version}`)
  const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  fs.mkdirSync(home, { recursive: true })
  await run('npm', ['install', '--prefix', home, ...flags, ...names], {
    cwd: home,
    what: 'Installing VitePress and TypeDoc',
  })
  writeText(join(home, 'package.json'), manifest)
}

/** The pages of docs/, as they stand but for links to what is not on the site. */
function copyPages(folder) {
  for (const path of filesUnder(join(root, 'docs'))) {
    const name = relative(join(root, 'docs'), path)
    const target = join(folder, name)
    if (name.endsWith('.md')) writeText(target, linked(readText(path), name))
    else copyFile(path, target)
  }
}

/** Examples are on a page of their own; of the sources only the name is left. */
function linked(text, name) {
  const up = name.includes('/') ? '../' : ''
  return text
    .replaceAll(/\]\((?:\.\.\/)+examples\/?([^)]*)\)/g, (_, file) => {
      const [folder] = file.split('/')
      return `](${up}examples.md${folder === '' ? '' : `#${anchor(folder)}`})`
    })
    .replaceAll(/\[([^\]]*)\]\((?:\.\.\/)+(?:src|tools|models|benches)\b[^)]*\)/g, '$1')
}

const anchor = (name) => name.toLowerCase().replaceAll('.', '-')

/** A page with the text of all examples. */
function examplesPage() {
  const folder = join(root, 'examples')
  const sections = fs.readdirSync(folder).map((entry) => {
    const path = join(folder, entry)
    const files = fs.statSync(path).isDirectory() ? filesUnder(path) : [path]
    const shown = files
      .filter((file) => !file.endsWith('README.md'))
      .map((file) => {
        const name = relative(folder, file)
        const language = basename(file).split('.').pop()
        const title = name === entry ? '' : `\n\`${name}\`\n`
        return `${title}\n\`\`\`${language}\n${fs.readFileSync(file, 'utf8').trimEnd()}\n\`\`\`\n`
      })
    return `## ${entry} {#${anchor(entry)}}\n${shown.join('')}`
  })
  const intro = 'Programs to copy. The tests run them as they stand here.'
  return `# Examples\n\n${intro}\n\n${sections.join('\n')}`
}

/** The reference, out of the types and what is said at them. */
async function makeReference(out) {
  const options = {
    plugin: ['typedoc-plugin-markdown'],
    tsconfig: join(root, 'tsconfig.build.json'),
    entryPoints: ENTRIES.map((name) => join(root, 'js', `${name}.ts`)),
    out,
    readme: 'none',
    entryFileName: 'index',
    disableSources: true,
    hideBreadcrumbs: true,
    hidePageHeader: true,
    sanitizeComments: true,
    useCodeBlocks: true,
    logLevel: 'Warn',
    name: 'API reference',
  }
  const file = join(home, 'typedoc.json')
  writeText(file, JSON.stringify(options))
  await run(process.execPath, [join(home, 'node_modules/typedoc/bin/typedoc'), '--options', file], {
    cwd: home,
    what: 'TypeDoc',
  })
}

async function main() {
  await installTools()
  await replaceFolder(pages, async (folder) => {
    copyPages(folder)
    copyFile(join(root, 'scripts/site/config.mjs'), join(folder, '.vitepress/config.mjs'))
    writeText(join(folder, 'examples.md'), examplesPage())
    await makeReference(join(folder, 'api'))
  })
  fs.rmSync(site, { recursive: true, force: true })
  const vitepress = join(home, 'node_modules/vitepress/bin/vitepress.js')
  await run(process.execPath, [vitepress, 'build', pages, '--outDir', site], {
    cwd: home,
    what: 'VitePress',
  })
  const broken = brokenLinks(site)
  if (broken.length > 0) throw new Problem(`Links that lead nowhere:`, broken)
  process.stdout.write(`${join(site, 'index.html')}\n`)
}

main().catch(fail)
