import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { ROOT, runProgram, type Outcome } from './child.js'

/** Outside of what git knows. */
const HOME = join(ROOT, '.build', 'browser')
const DRIVER = 'playwright-core@1.65.1'

/** A browser, and what its process needs to start. */
export interface Browser {
  path: string
  environment: NodeJS.ProcessEnv
}

/** The machine's own Chromium, or Debian's, unpacked into .build without installing anything. */
export function findChromium(): Browser | undefined {
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const own = folders.flatMap((folder) => names.map((name) => join(folder, name)))
  own.push('/Applications/Google Chrome.app/Contents/MacOS/Google Chrome')
  const path = own.find((candidate) => existsSync(candidate))
  return path === undefined ? debianChromium() : { path, environment: {} }
}

function debianChromium(): Browser | undefined {
  const root = join(HOME, 'root')
  const path = join(root, 'usr', 'lib', 'chromium', 'chromium')
  if (!existsSync(path) && !unpackDebian(root)) return undefined
  const triple = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
  const libraries = join(root, 'usr', 'lib', triple)
  const folders = [libraries, join(root, 'lib', triple), join(libraries, 'pulseaudio')]
  return {
    path,
    environment: {
      LD_LIBRARY_PATH: folders.join(':'),
      FONTCONFIG_FILE: join(HOME, 'fonts.conf'),
    },
  }
}

/** Whether Debian's packages of Chromium, and all that they need and is missing, could be had. */
function unpackDebian(root: string): boolean {
  const packages = ['--no-install-recommends', 'chromium', 'fonts-dejavu-core']
  const apt = (...args: string[]) => spawnSync('apt-get', args, { cwd: debs, encoding: 'utf8' })
  const debs = join(HOME, 'debs')
  mkdirSync(debs, { recursive: true })
  let listed = apt('install', '--print-uris', '-y', ...packages)
  if (listed.status !== 0 && apt('update').status === 0)
    listed = apt('install', '--print-uris', '-y', ...packages)
  const missing = [...listed.stdout.matchAll(/^'[^']*' ([^_]+)_/gm)].map(([, name = '']) => name)
  if (listed.status !== 0 || !missing.includes('chromium')) return false
  if (apt('download', ...missing).status !== 0) return false
  for (const deb of readdirSync(debs)) execFileSync('dpkg', ['-x', join(debs, deb), root])
  const fonts = ['/usr/share/fonts', join(root, 'usr', 'share', 'fonts')]
  writeFileSync(
    join(HOME, 'fonts.conf'),
    `<fontconfig>${fonts.map((folder) => `<dir>${folder}</dir>`).join('')}` +
      `<cachedir>${join(HOME, 'font-cache')}</cachedir></fontconfig>\n`,
  )
  return true
}

/** Installs what drives the browser, where it is not there. */
export function installDriver(): void {
  mkdirSync(HOME, { recursive: true })
  if (!existsSync(join(HOME, 'node_modules', 'playwright-core'))) {
    const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
    execFileSync('npm', ['install', '--prefix', HOME, ...flags, DRIVER], {
      cwd: HOME,
      stdio: 'pipe',
    })
  }
  cpSync(join(ROOT, '__test__', 'browser'), HOME, { recursive: true })
}

/** Runs the tests of a page in a process of its own. */
export function runBrowser(
  name: string,
  { path, environment }: Browser,
  settings: NodeJS.ProcessEnv,
): Promise<Outcome> {
  const pictures = join(HOME, 'pictures')
  mkdirSync(pictures, { recursive: true })
  return runProgram(process.execPath, ['--test-reporter=tap', join(HOME, `${name}.mjs`)], {
    cwd: HOME,
    environment: { CHROMIUM: path, PICTURES: pictures, ...environment, ...settings },
    timeoutMs: 280_000,
  })
}
