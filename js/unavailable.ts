import { codeOf, messageOf, NodeMlxError } from './errors.js'
import { builtAddon, isBundled } from './package-folder.js'
import { platformName } from './platform.js'
import { VERSION } from './version.js'

/** A place where the addon is, and why it could not be loaded. */
export interface Failure {
  place: string
  error: unknown
}

/** Whether the package itself is not there, and not something that it needs. */
export function isMissing(error: unknown, place: string): boolean {
  return codeOf(error) === 'MODULE_NOT_FOUND' && messageOf(error).includes(`'${place}'`)
}

/** Why there is no addon, and what to do. */
export function unavailable(failures: readonly Failure[]): NodeMlxError {
  const name = platformName()
  if (failures.length === 0) return new NodeMlxError('ADDON_UNAVAILABLE', notInstalled(name))
  const list = failures.map(({ place, error }) => `\n  ${place}: ${messageOf(error)}`).join('')
  const hints = [...new Set(failures.map(({ error }) => hint(error)))].join('')
  return new NodeMlxError(
    'ADDON_UNAVAILABLE',
    `The native addon for ${name} could not be loaded:${list}${hints}`,
    { cause: failures[0]?.error },
  )
}

function notInstalled(name: string): string {
  const built = builtAddon()
  const places = `no package @nodemlx/${name}${built === undefined ? '' : `, and no ${built}`}`
  const install = `"npm install nodemlx@${VERSION} @nodemlx/${name}@${VERSION}"`
  if (isBundled()) {
    return (
      `The native addon for ${name} is not where this bundle runs: there is ${places}. A bundle cannot hold it. Leave nodemlx out of ` +
      `the bundle (esbuild and Vite: external: ['nodemlx']; webpack: externals: { nodemlx: 'commonjs nodemlx' }; Next.js: ` +
      `serverExternalPackages: ['nodemlx']), and install it beside the program with ${install}.`
    )
  }
  return (
    `The native addon for ${name} is not installed: there is ${places}. Install it with "npm install @nodemlx/${name}@${VERSION}" ` +
    '(it is an optional dependency of nodemlx: npm leaves it out with --omit=optional, and a node_modules folder or lock file made ' +
    'on another system lacks it). In a clone of the project, run "npm run build".'
  )
}

/** What to do about an error that the system's own message leaves open. */
function hint(error: unknown): string {
  const code = codeOf(error)
  if (code === 'ERR_DLOPEN_DISABLED')
    return '\nNode.js runs with its permission model: start it with --allow-addons, too.'
  if (code === 'ERR_ACCESS_DENIED')
    return "\nNode.js runs with its permission model: allow it to read the packages' folder with --allow-fs-read."
  const glibc = /version `?GLIBC_([\d.]+)'? not found/.exec(messageOf(error))?.[1]
  return glibc === undefined
    ? ''
    : `\nThis system's C library is too old: glibc ${glibc} is needed, as in Debian 12 or Ubuntu 22.04.`
}
