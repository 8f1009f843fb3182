// What to type when something is missing that only the person can install.

import { readText } from './files.mjs'

/** The packages of each thing, by the family of the Linux distribution. */
const packages = {
  compiler: { debian: 'g++', fedora: 'gcc-c++', suse: 'gcc-c++', arch: 'gcc' },
  python: {
    debian: 'python3 python3-pip',
    fedora: 'python3 python3-pip',
    suse: 'python3 python3-pip',
    arch: 'python python-pip',
  },
  pip: { debian: 'python3-pip', fedora: 'python3-pip', suse: 'python3-pip', arch: 'python-pip' },
}

const installers = {
  debian: 'apt-get install -y',
  fedora: 'dnf install -y',
  suse: 'zypper install -y',
  arch: 'pacman -S --needed',
}

/** The distribution's family by its os-release file, or undefined. */
export function distribution(osRelease = readText('/etc/os-release') ?? '') {
  const ids = [...osRelease.matchAll(/^ID(?:_LIKE)?=(.*)$/gm)].flatMap(([, value]) =>
    value.replaceAll('"', '').split(/\s+/),
  )
  if (ids.some((id) => id === 'debian' || id === 'ubuntu')) return 'debian'
  if (ids.some((id) => id === 'fedora' || id === 'rhel')) return 'fedora'
  if (ids.some((id) => id.includes('suse'))) return 'suse'
  if (ids.includes('arch')) return 'arch'
  return undefined
}

/** The command line that installs something here. */
export function packageAdvice(thing, family = distribution()) {
  if (!family)
    return [
      `Install it with your system's package manager (on Debian: ${packages[thing].debian}), then run the same command again.`,
    ]
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  return [
    'Type this, then run the same command again:',
    `  ${sudo}${installers[family]} ${packages[thing][family]}`,
  ]
}

/** How Rust gets here, or gets newer. */
export function rustAdvice(found) {
  return found
    ? ['Type this, then run the same command again:', '  rustup update stable']
    : [
        'Type this, open a new terminal, then run the same command again:',
        "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh",
      ]
}
