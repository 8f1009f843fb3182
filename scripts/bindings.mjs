#!/usr/bin/env node
// npm run bindings: makes native/bindings/bindings.rs anew, Rust's view of the headers of mlx-c.
// Needed when mlx-sys changes; set-up says so.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { bindingsDir, bindingsHeading, mlxSysDir } from './lib/native.mjs'
import { Progress } from './lib/progress.mjs'
import { buildDir, platform, root, targets, wheels } from './lib/project.mjs'
import { fail, probe, run } from './lib/run.mjs'
import { cacheEnvironment, findCompiler } from './lib/toolchain.mjs'
import { unpackWheel } from './lib/wheel.mjs'

async function main() {
  const env = cacheEnvironment()
  const progress = new Progress('Making the bindings:')
  const mlxC = join(await mlxSysDir(env), 'src/mlx-c')
  const libclang = join(buildDir, 'libclang')
  const targetDir = join(buildDir, 'bindgen')
  await Promise.all([
    progress.task('libclang', (report) => unpackWheel(wheels.libclang[platform], libclang, report)),
    progress.task('bindgen', () =>
      run(
        'cargo',
        ['build', '--locked', '--target', targets[platform], '--target-dir', targetDir],
        {
          cwd: join(root, 'native', 'bindgen'),
          env,
          what: 'Building bindgen',
        },
      ),
    ),
  ])
  const folder = fs.readdirSync(libclang).find((entry) => entry.endsWith('.data'))
  const include = probe(findCompiler().command, ['-print-file-name=include'])
  const halfDecl = join(root, 'native', 'mlxc', 'half_decl.h')
  const program = join(targetDir, targets[platform], 'debug', 'mlx-bindgen')
  const output = join(bindingsDir, 'bindings.rs')
  await run(program, [mlxC, halfDecl, include, bindingsHeading(mlxC), output], {
    env: { ...env, LIBCLANG_PATH: join(libclang, folder, 'platlib/clang/native') },
    what: 'Making the bindings',
  })
}

main().catch(fail)
