// macOS with NODEMLX_MLX=source: mlx-sys downloads and compiles MLX itself, with Xcode and cmake;
// what is left is to say where its compiled kernels go.

import { join } from 'node:path'
import {
  buildSection,
  checkCargoConfig,
  readCargoConfig,
  writeCargoConfig,
} from './cargo-config.mjs'
import { buildDir } from './project.mjs'

/** Whether MLX is built from its source and not taken from its wheel. */
export const fromSource = process.platform === 'darwin' && process.env.NODEMLX_MLX === 'source'

const metalDir = join(buildDir, 'metal')

/** The compiled Metal kernels. MLX looks for them beside the library that it is linked into. */
export const metallib = join(metalDir, 'mlx.metallib')

// Without the first, mlx-sys puts the kernels into a folder in the home folder; MLX needs macOS 14.
const config = `${buildSection()}
[env]
MLX_RS_METAL_PATH = ${JSON.stringify(metalDir)}
MACOSX_DEPLOYMENT_TARGET = "14.0"
`

export function metalIsCurrent() {
  return readCargoConfig() === config
}

export function setUpMetal() {
  checkCargoConfig()
  writeCargoConfig(config)
}
