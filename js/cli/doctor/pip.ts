import { join } from 'node:path'
import { textOf, type Surroundings } from './surroundings.js'

/** How pip can be called. */
const CANDIDATES: readonly (readonly [string, ...string[]])[] = [
  ['python3', '-m', 'pip'],
  ['python', '-m', 'pip'],
  ['pip3'],
  ['pip'],
]

/** The first pip that there is. */
export function findPip({ run }: Surroundings): readonly [string, ...string[]] | undefined {
  return CANDIDATES.find(([command, ...args]) => {
    const said = run(command, [...args, '--version'])
    return said?.startsWith('pip ') === true
  })
}

/** What puts wheels into a folder, behind the name of pip. */
export function pipArguments(folder: string, requirements: readonly string[]): string[] {
  const options = ['--upgrade', '--only-binary=:all:', '--disable-pip-version-check', '--no-input']
  return ['install', '--target', folder, ...options, ...requirements]
}

/** What installs pip, by the family of the Linux distribution. */
export function howToGetPip({ root }: Surroundings): string {
  const release = textOf(join(root, 'etc/os-release')) ?? ''
  const ids = [...release.matchAll(/^ID(?:_LIKE)?=(.*)$/gm)].flatMap(([, value = '']) =>
    value.replaceAll('"', '').split(/\s+/),
  )
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  const has = (...names: string[]): boolean => ids.some((id) => names.includes(id))
  if (has('debian', 'ubuntu')) return `${sudo}apt-get install -y python3-pip`
  if (has('fedora', 'rhel', 'centos')) return `${sudo}dnf install -y python3-pip`
  if (ids.some((id) => id.includes('suse'))) return `${sudo}zypper install -y python3-pip`
  if (has('arch')) return `${sudo}pacman -S --needed python-pip`
  return 'install Python 3 with pip, with your package manager'
}

/** A command line as it is typed into a shell. */
export function shellLine(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ')
}
