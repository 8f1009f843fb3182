// The toolchains that set-up takes for granted, and the folders that they write to.

import * as fs from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { packageAdvice, rustAdvice } from './advice.mjs'
import { atLeast, buildDir, platform, required, targets } from './project.mjs'
import { Problem, probe } from './run.mjs'

/** Fails where the machine itself cannot build the addon. */
export function checkMachine() {
  if (!(platform in targets)) {
    throw new Problem(
      `nodemlx cannot be built on ${platform}: it runs on ${Object.keys(targets).join(', ')}.`,
    )
  }
  if (!atLeast(process.versions.node, required.node)) {
    throw new Problem(
      `Node ${required.node} or later is needed to build; this is ${process.versions.node}.`,
      'Install a current one from nodejs.org, or with your version manager: nvm install --lts',
    )
  }
}

/** Fails where the C library is too old for MLX's binaries, or is not glibc. */
export function checkLibc() {
  const found = /(\d+\.\d+)\s*$/.exec(probe('getconf', ['GNU_LIBC_VERSION']) ?? '')?.[1]
  if (found && atLeast(found, required.glibc)) return
  throw new Problem(
    `MLX for Linux needs glibc ${required.glibc} or later; this system has ${found ? `glibc ${found}` : 'another C library'}.`,
    'Debian 12, Ubuntu 22.04, Fedora 36 and later have it.',
  )
}

/** Fails where there is no Rust, or one that is too old. */
export function checkRust() {
  const rustup = join(homedir(), '.cargo', 'bin')
  if (!probe('cargo', ['--version']) && fs.existsSync(join(rustup, 'cargo'))) {
    // Installed in this session: the shell does not know its folder yet.
    process.env.PATH = `${process.env.PATH}${delimiter}${rustup}`
  }
  const version = /^rustc (\d+\.\d+\.\d+)/.exec(probe('rustc', ['--version']) ?? '')?.[1]
  if (!version || !probe('cargo', ['--version'])) {
    throw new Problem(
      `Rust ${required.rust} or later is needed, and there is none.`,
      rustAdvice(undefined),
    )
  }
  if (!atLeast(version, required.rust)) {
    throw new Problem(
      `Rust ${required.rust} or later is needed; this is ${version}.`,
      rustAdvice(version),
    )
  }
}

/** Fails where mlx-sys could not build MLX on a Mac. */
export function checkMacTools() {
  if (!probe('xcrun', ['--find', 'clang'])) {
    throw new Problem('The compilers of Xcode are needed.', [
      'Type this, then run the same command again:',
      '  xcode-select --install',
    ])
  }
  if (!probe('cmake', ['--version'])) {
    throw new Problem('CMake is needed to build MLX.', [
      'Type this, then run the same command again:',
      '  brew install cmake',
    ])
  }
  if (!probe('xcrun', ['-sdk', 'macosx', 'metal', '--version'])) {
    throw new Problem(
      'The Metal compiler is needed, which comes with Xcode (not its command-line tools alone).',
      [
        'Install Xcode, then type this and run the same command again:',
        '  sudo xcode-select -s /Applications/Xcode.app && xcodebuild -downloadComponent MetalToolchain',
      ],
    )
  }
}

/** The C++ compiler: `$CXX`, else g++, or on a Mac clang. */
export function findCompiler() {
  const mac = process.platform === 'darwin'
  const command = process.env.CXX || (mac ? 'clang++' : 'g++')
  const version = probe(command, ['-dumpfullversion', '-dumpversion'])
  if (!version) {
    throw new Problem(
      `A C++ compiler is needed, and there is no ${command}.`,
      mac
        ? ['Type this, then run the same command again:', '  xcode-select --install']
        : packageAdvice('compiler'),
    )
  }
  const clang = probe(command, ['--version'])?.includes('clang') ?? false
  if (!clang && !atLeast(version, required.gcc)) {
    throw new Problem(`g++ ${required.gcc} or later is needed; this is ${version}.`, [
      'Install a newer one and name it, for example:  CXX=g++-12 npm run demo',
    ])
  }
  return { command, id: `${command} ${version}` }
}

/** Whether something can be written at `path`, which may not exist yet. */
function writable(path) {
  try {
    fs.accessSync(path, fs.constants.W_OK)
    return true
  } catch (error) {
    return error.code === 'ENOENT' && path !== dirname(path) && writable(dirname(path))
  }
}

/**
 * What cargo and npm need in their environment where the home folder is read-only: caches in the
 * checkout.
 */
export function cacheEnvironment() {
  const env = {}
  if (!writable(process.env.CARGO_HOME ?? join(homedir(), '.cargo'))) {
    env.CARGO_HOME = join(buildDir, 'cargo')
  }
  if (!writable(process.env.npm_config_cache ?? join(homedir(), '.npm'))) {
    env.npm_config_cache = join(buildDir, 'npm')
  }
  return env
}
