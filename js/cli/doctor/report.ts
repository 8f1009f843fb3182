import { codeOf, messageOf } from '../../errors.js'
import { addonPlace, getNative } from '../../native.js'
import { VERSION } from '../../version.js'
import { hubCache, kernelCache, type CacheFolder } from './caches.js'
import { cuda, type CudaReport } from './cuda.js'
import { machine, type Machine } from './machine.js'
import { CUDA_PACKAGE, type Surroundings } from './surroundings.js'

/** Something that is missing, and what to do. */
export interface Finding {
  /** Nothing runs with an `error`; with a `warning` something does not, or not well. */
  severity: 'error' | 'warning'
  message: string
  /** What to type or to do. */
  advice: string
}

export interface Device {
  kind: string
  name?: string
  memoryBytes?: number
}

/** What there is on a machine, and what is missing. */
export interface Report {
  version: string
  node: string
  platform: string
  addon:
    | {
        place: string
        version: string
        mlx: string
        devices: Device[]
        defaultDevice: string
        /** Why the kernels of nodemlx do not run on the NVIDIA card that there is. */
        kernelProblem?: string
      }
    | { error: string; code: string }
  machine: Machine
  cuda?: CudaReport
  kernelCache?: CacheFolder
  hubCache: CacheFolder
  findings: Finding[]
}

/** MLX's libraries for CUDA 13 need this driver. */
const OLDEST_DRIVER = 580
/** Kernels of ours need this compute capability. */
const OLDEST_CARD = 8
/** Less room than this is not enough for most models. */
const LITTLE_ROOM = 5e9

/** Looks at everything. Never throws: what cannot be found out is left out. */
export async function report(around: Surroundings): Promise<Report> {
  const onNvidia = around.platform === 'linux-x64' ? cuda(around) : undefined
  const usesCuda = onNvidia?.driver !== undefined || onNvidia?.package !== undefined
  const kernels = usesCuda ? await kernelCache(around) : undefined
  const facts = {
    version: VERSION,
    node: process.versions.node,
    platform: around.platform,
    addon: addon(),
    machine: machine(around),
    ...(onNvidia !== undefined && { cuda: onNvidia }),
    ...(kernels !== undefined && { kernelCache: kernels }),
    hubCache: await hubCache(around),
  }
  return { ...facts, findings: findings(facts) }
}

function addon(): Report['addon'] {
  try {
    const native = getNative()
    native.checkMachine?.()
    const { addon: version, mlx } = native.nativeVersion()
    const { devices, defaultDevice } = native.systemInfo()
    const kernelProblem = native.kernelProblem?.() ?? undefined
    return {
      place: addonPlace() ?? '',
      version,
      mlx,
      devices,
      defaultDevice,
      ...(kernelProblem !== undefined && { kernelProblem }),
    }
  } catch (error) {
    return { error: messageOf(error), code: String(codeOf(error)) }
  }
}

/** What is missing. */
export function findings(facts: Omit<Report, 'findings'>): Finding[] {
  const found: Finding[] = []
  const warn = (message: string, advice: string): void => {
    found.push({ severity: 'warning', message, advice })
  }
  if ('error' in facts.addon) {
    const message = 'The addon does not load, so no model runs.'
    found.push({ severity: 'error', message, advice: facts.addon.error })
  }
  if (facts.cuda?.driver !== undefined) cudaFindings(facts.cuda, facts.cuda.driver, warn)
  const isOld = facts.cuda?.cards.some(isTooOld) === true
  if ('kernelProblem' in facts.addon && !isOld) {
    warn(
      `The kernels of nodemlx do not run on this card: ${facts.addon.kernelProblem ?? ''}`,
      'MLX computes in their place, more slowly; "nodemlx setup cuda" brings the compiler anew.',
    )
  }
  const { freeBytes } = facts.hubCache
  if (freeBytes !== undefined && freeBytes < LITTLE_ROOM) {
    warn(
      `There is little room for models in ${facts.hubCache.folder}.`,
      'Remove models with "nodemlx rm MODEL", or name a folder on another disk in HF_HUB_CACHE.',
    )
  }
  if (facts.platform.endsWith('x64') && !facts.machine.instructionSets.includes('AVX2')) {
    warn(
      'The processor has no AVX2, so models run on it slowly.',
      'In a virtual machine, let it see the processor of its host (for QEMU: -cpu host).',
    )
  }
  return found
}

function isTooOld({ computeCapability }: CudaReport['cards'][number]): boolean {
  return Number.parseInt(computeCapability, 10) < OLDEST_CARD
}

function cudaFindings(
  { cards, package: folder, libraries, headers }: CudaReport,
  driver: string,
  warn: (message: string, advice: string) => void,
): void {
  if (folder === undefined) {
    warn(
      'There is an NVIDIA driver, and the package that computes with CUDA is not installed.',
      `npm install ${CUDA_PACKAGE}@${VERSION}, then nodemlx setup cuda`,
    )
    return
  }
  if (Number.parseInt(driver, 10) < OLDEST_DRIVER) {
    warn(
      `The NVIDIA driver ${driver} is too old for CUDA 13.`,
      `Install the driver ${OLDEST_DRIVER} or a later one.`,
    )
  }
  if (cards.length === 0) {
    warn(
      'The NVIDIA driver lists no card.',
      'See what "nvidia-smi" says; a container needs to be started with --gpus all.',
    )
  }
  for (const { name, computeCapability } of cards.filter(isTooOld)) {
    warn(
      `${name} has compute capability ${computeCapability}: ` +
        'models run on it without the kernels of nodemlx.',
      `Cards with ${OLDEST_CARD}.0 or more, which NVIDIA has made since 2020, have them.`,
    )
  }
  const missing = libraries.filter(({ path }) => path === undefined).map(({ name }) => name)
  if (missing.length > 0) warn(`CUDA lacks ${missing.join(', ')}.`, 'nodemlx setup cuda')
  if (headers.missing.length > 0) {
    const place = headers.folder === undefined ? '' : ` in ${headers.folder}`
    warn(
      `Kernels that are compiled when they are needed lack ${headers.missing.join(', ')}${place}.`,
      'nodemlx setup cuda',
    )
  }
}
