// Where things are, and which exact versions the project is made with.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the checkout. */
export const root = resolve(fileURLToPath(import.meta.url), '../../..')

/** Everything that set-up makes or downloads; git ignores it. */
export const buildDir = join(root, '.build')

/** `linux-x64`, `linux-arm64` or `darwin-arm64`: also the name of the folder under `npm/`. */
export const platform = `${process.platform}-${process.arch}`

/** What the addon can be built on, and Rust's name for it. */
export const targets = {
  'darwin-arm64': 'aarch64-apple-darwin',
  'linux-arm64': 'aarch64-unknown-linux-gnu',
  'linux-x64': 'x86_64-unknown-linux-gnu',
}

/** The MLX release that mlx-sys is written against. Its ABI changes between patch releases. */
export const mlxVersion = '0.32.2'

/** The oldest toolchains that work. `rust` is `rust-version` in Cargo.toml. */
export const required = {
  node: '20.19.0',
  rust: /^rust-version = "(.+)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'))[1],
  gcc: '12',
  glibc: '2.35',
}

/** Python wheels that are taken apart for what is in them, never installed. */
export const wheels = {
  mlx: {
    'linux-x64': {
      requirement: `mlx-cpu==${mlxVersion}`,
      sha256: 'fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878',
    },
    'linux-arm64': {
      requirement: `mlx-cpu==${mlxVersion}`,
      sha256: 'd0f94625588b51a878786dd51cec5617894ce586cf3c94645ce1b64e24c27c0b',
    },
    'darwin-arm64': {
      requirement: `mlx-metal==${mlxVersion}`,
      sha256: '3825fff379dbc107dd3413e564a06caeaa24819910ec49c0439e454c06a1b9b8',
    },
  },
  mlxCuda: {
    'linux-x64-cuda13': {
      requirement: `mlx-cuda-13==${mlxVersion}`,
      sha256: '335094ccd1c0c6dc3e09c8caba207c8180602bacc0c38ba20c1d81e9456ab394',
    },
  },
  libclang: {
    'linux-x64': {
      requirement: 'libclang==18.1.1',
      sha256: 'c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b',
    },
    'linux-arm64': {
      requirement: 'libclang==18.1.1',
      sha256: '54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592',
    },
    'darwin-arm64': {
      requirement: 'libclang==18.1.1',
      sha256: '0b2e143f0fac830156feb56f9231ff8338c20aecfe72b4ffe96f19e5a1dbb69a',
    },
  },
}

/** Wheels of the tools that check this project for other platforms on Linux. */
export const crossWheels = {
  zig: {
    requirement: 'ziglang==0.17.1',
    sha256: 'ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54',
  },
  macholib: {
    requirement: 'macholib==1.16.4',
    sha256: 'da1a3fa8266e30f0ce7e97c6a54eefaae8edd1e5f86f3eb8b95457cae90265ea',
  },
  altgraph: {
    requirement: 'altgraph==0.17.5',
    sha256: 'f3a22400bce1b0c701683820ac4f3b159cd301acab067c51c653e06961600597',
  },
}

/** What pip calls the platforms for which wheels are taken on other machines, too. */
export const pipPlatforms = {
  'darwin-arm64': 'macosx_14_0_arm64',
  'linux-arm64': 'manylinux_2_35_aarch64',
}

/** Whether the version `found` is at least `least`, both dotted numbers. */
export function atLeast(found, least) {
  const a = found.split('.').map((part) => Number.parseInt(part, 10))
  const b = least.split('.').map((part) => Number.parseInt(part, 10))
  for (let i = 0; i < b.length; i++) {
    if ((a[i] ?? 0) !== b[i]) return (a[i] ?? 0) > b[i]
  }
  return true
}

/** A short key that changes when any of the parts does. */
export function keyOf(...parts) {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = Buffer.from(part)
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest('hex').slice(0, 16)
}
