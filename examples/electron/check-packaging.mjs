// Checks a packaged app: `node check-packaging.mjs <the app's resources folder>`. What native code
// reads has to lie beside the archive, and not in it.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const [resources = '.'] = process.argv.slice(2)
const problems = []

function need(path, what) {
  if (existsSync(path)) return true
  problems.push(`${path} is missing: ${what}`)
  return false
}

need(join(resources, 'app.asar'), 'is this the resources folder of an app with an archive?')
const modules = join(resources, 'app.asar.unpacked', 'node_modules')
const unpack =
  'name **/node_modules/{nodemlx,@nodemlx}/** in asarUnpack (electron-builder) or asar.unpack (Forge)'
need(join(modules, 'nodemlx', 'dist', 'client', 'main.js'), unpack)
need(join(modules, 'nodemlx', 'models', 'demo', 'model.safetensors'), unpack)
if (need(join(modules, '@nodemlx'), unpack)) {
  const platforms = readdirSync(join(modules, '@nodemlx'))
  if (platforms.length === 0) problems.push('there is no @nodemlx/<platform>: install it first')
  for (const platform of platforms) {
    const folder = join(modules, '@nodemlx', platform)
    if (!need(join(folder, 'nodemlx.node'), unpack)) continue
    const libraries = readdirSync(folder, { recursive: true }).filter((name) =>
      /\.(so|dylib)(\.|$)/.test(name),
    )
    if (libraries.length === 0) problems.push(`${folder} has no libraries: ${unpack}`)
    const bytes = libraries.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
    console.log(`${platform}: ${libraries.length} libraries, ${(bytes / 1e6).toFixed(0)} MB`)
  }
}
for (const problem of problems) console.error(problem)
process.exitCode = problems.length === 0 ? 0 : 1
