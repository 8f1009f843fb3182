#!/usr/bin/env node
// Gets everything that building needs and that is not there yet: npm packages and MLX.
// Quick where nothing is missing; interrupted, it goes on where it was.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { readText } from './lib/files.mjs'
import { fromSource, metalIsCurrent, setUpMetal } from './lib/metal.mjs'
import { nativeIsCurrent, setUpNative } from './lib/native.mjs'
import { Progress } from './lib/progress.mjs'
import { buildDir, platform, root } from './lib/project.mjs'
import { fail, run } from './lib/run.mjs'
import {
  cacheEnvironment,
  checkLibc,
  checkMachine,
  checkMacTools,
  checkRust,
  findCompiler,
} from './lib/toolchain.mjs'

/** Whether node_modules holds what the lock file says. */
function npmIsCurrent() {
  const installed = readText(join(root, 'node_modules', '.package-lock.json'))
  if (installed === undefined) return false
  const wanted = JSON.parse(fs.readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const found = JSON.parse(installed).packages
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || entry.optional === true || found[path]?.version === entry.version,
  )
}

async function installNpm(progress) {
  await progress.task('npm packages', () =>
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: root,
      // `npm run` hands its own configuration to its children; this npm reads it afresh.
      env: { ...cacheEnvironment(), npm_config_production: undefined, NODE_ENV: undefined },
      what: 'npm ci',
    }),
  )
}

/** A lock that its owner has not touched for so long was left behind by an interrupted set-up. */
const STALE_MS = 15_000

/** Keeps two set-ups of one checkout from writing the same files. */
async function locked(work) {
  const lock = join(buildDir, 'lock')
  fs.mkdirSync(buildDir, { recursive: true })
  for (let told = false; ; told = true) {
    try {
      fs.writeFileSync(lock, '', { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const touched = fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0
    if (Date.now() - touched > STALE_MS) fs.rmSync(lock, { force: true })
    else if (!told) process.stderr.write('Waiting for another set-up of this checkout …\n')
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  const touch = setInterval(() => fs.utimesSync(lock, new Date(), new Date()), 2000)
  try {
    return await work()
  } finally {
    clearInterval(touch)
    fs.rmSync(lock, { force: true })
  }
}

/** Whether there is nothing to do. */
function isCurrent() {
  return npmIsCurrent() && (fromSource ? metalIsCurrent() : nativeIsCurrent())
}

/** Sets up what is missing. */
export async function ensureSetUp() {
  checkMachine()
  if (isCurrent()) return
  checkRust()
  if (process.platform === 'linux') checkLibc()
  if (fromSource) checkMacTools()
  else findCompiler()
  await locked(async () => {
    const progress = new Progress(`Setting up nodemlx for ${platform}:`)
    const tasks = []
    if (!npmIsCurrent()) tasks.push(installNpm(progress))
    if (fromSource) setUpMetal()
    else tasks.push(setUpNative(progress))
    const results = await Promise.allSettled(tasks)
    const failed = results.find(({ status }) => status === 'rejected')
    if (failed) throw failed.reason
  })
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  ensureSetUp().then(() => process.stderr.write('Everything is set up.\n'), fail)
}
