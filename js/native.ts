import type * as addon from '../index.js'
import { NodeMlxError } from './errors.js'
import { exists } from './files.js'
import { requireAddon } from './installation.js'
import { basesOfBundle, builtAddon } from './package-folder.js'
import { platformName, platformProblem } from './platform.js'
import { requireFrom } from './require.js'
import { unavailable, isMissing, type Failure } from './unavailable.js'

export type {
  NativeAdapter,
  NativeBatch,
  NativeCandidate,
  NativeCacheLimits,
  NativeContinuation,
  NativeEmbeddings,
  NativeEmbedRequest,
  NativeCalibration,
  NativeConvertRequest,
  NativeGenerateRequest,
  NativeGeneration,
  NativeJudgements,
  NativeJudgeRequest,
  NativeLoad,
  NativeLoadProgress,
  NativeLoadRequest,
  NativeLogprob,
  NativeModel,
  NativeModelInfo,
  NativeOutline,
  NativePiece,
  NativePrompt,
  NativePromptCache,
  NativeResponseFormat,
  NativeResult,
  NativeScored,
  NativeScores,
  NativeScoreRequest,
  NativeSpeculation,
} from '../index.js'

/** What checks before anything is done. */
type Checks = 'checkMachine' | 'checkLoadRequest' | 'checkGenerateRequest' | 'kernelProblem'

/**
 * The addon's functions, as its build describes them; they throw errors with a `code`. Its classes
 * are not made by hand.
 */
export type Native = Omit<
  typeof addon,
  | Checks
  | 'NativeAdapter'
  | 'NativeConversion'
  | 'NativeFileLock'
  | 'NativeGeneration'
  | 'NativeLoad'
  | 'NativeModel'
  | 'NativeOutline'
  | 'NativePromptCache'
> &
  // An addon of an earlier version finds out later.
  Partial<Pick<typeof addon, Checks>>

let loaded: { native: Native; place: string } | { error: NodeMlxError } | undefined

/**
 * The addon. It is loaded when it is first needed, so that importing the package never throws; a
 * failure is remembered.
 */
export function getNative(): Native {
  loaded ??= load()
  if ('error' in loaded) throw loaded.error
  return loaded.native
}

/** What the addon was loaded from: a package or a file. */
export function addonPlace(): string | undefined {
  return loaded !== undefined && 'place' in loaded ? loaded.place : undefined
}

/** Somewhere the addon may be. */
interface Place {
  /** What is loaded there: a package or a file. */
  name: string
  load: () => unknown
}

function load(): NonNullable<typeof loaded> {
  const problem = platformProblem()
  if (problem !== undefined) return { error: new NodeMlxError('UNSUPPORTED_PLATFORM', problem) }
  const failures: Failure[] = []
  for (const place of places()) {
    try {
      return { native: place.load() as Native, place: place.name }
    } catch (error) {
      if (!isMissing(error, place.name)) failures.push({ place: place.name, error })
    }
  }
  return { error: unavailable(failures) }
}

/**
 * The packages of this platform, the one with CUDA first where that can run, then what was built in
 * this folder.
 */
function places(): Place[] {
  const platform = platformName()
  const platforms = [platform]
  if (platform === 'linux-x64' && hasNvidiaDriver()) platforms.unshift(`${platform}-cuda13`)
  const packages = platforms.map((name) => ({
    name: `@nodemlx/${name}`,
    load: () => requireAddon(name),
  }))
  const beside = basesOfBundle().flatMap((base) =>
    packages.map(({ name }) => ({ name, load: () => requireFrom(base)(name) as unknown })),
  )
  const built = builtAddon()
  if (built === undefined || !exists(built)) return [...packages, ...beside]
  return [...packages, ...beside, { name: built, load: () => requireFrom(built)(built) as unknown }]
}

function hasNvidiaDriver(): boolean {
  return exists('/proc/driver/nvidia/version') || exists('/dev/nvidiactl')
}
