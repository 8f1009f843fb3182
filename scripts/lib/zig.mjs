#!/usr/bin/env node
// The C and C++ compiler of cargo's builds for a Mac on Linux: zig, without the options of Apple's
// compiler that it does not know. zig.mjs ZIG cc|c++ ARGUMENTS…

import { spawnSync } from 'node:child_process'

/** How zig is called for a Mac; its libc++ misses what strict C++ hides in its <math.h>. */
export const macFlags = {
  target: ['-target', 'aarch64-macos.14.0'],
  cxx: [
    '-DINFINITY=__builtin_inff()',
    '-DNAN=__builtin_nanf("")',
    '-DHUGE_VAL=__builtin_huge_val()',
  ],
}

const WITH_VALUE = new Set(['-isysroot', '-arch', '-target', '-framework'])
const PREFIXES = ['-mmacosx-version-min', '-mmacos-version-min', '--target=', '-gdwarf']
const DROPPED = new Set(['-lobjc', '-liconv', '-lgcc_s', '-Wl,-dead_strip'])

/** The arguments that zig takes of those that were meant for Apple's compiler. */
function forZig(args) {
  const kept = []
  for (let at = 0; at < args.length; at++) {
    if (WITH_VALUE.has(args[at])) at++
    else if (!DROPPED.has(args[at]) && !PREFIXES.some((prefix) => args[at].startsWith(prefix)))
      kept.push(args[at])
  }
  return kept
}

if (process.argv[1] === import.meta.filename) {
  const [zig, language, ...args] = process.argv.slice(2)
  const cxx = language === 'c++' && args.includes('-c') ? macFlags.cxx : []
  const { status, error } = spawnSync(
    zig,
    [language, ...macFlags.target, ...cxx, ...forZig(args)],
    { stdio: 'inherit' },
  )
  if (error) throw error
  process.exitCode = status ?? 1
}
