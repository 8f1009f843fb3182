#!/usr/bin/env node
// npm run build: the addon (release; --debug for a debug one) and dist/. --js: dist/ alone.

import { buildAddon } from './lib/addon.mjs'
import { ensureDist } from './lib/dist.mjs'
import { fail } from './lib/run.mjs'
import { ensureSetUp } from './setup.mjs'

async function main(args) {
  await ensureSetUp()
  if (!args.includes('--js')) buildAddon(args.includes('--debug') ? 'debug' : 'release')
  await ensureDist()
}

main(process.argv.slice(2)).catch(fail)
