import { NodeMlxError } from '../errors.js'
import { load, LoadedModel } from '../model.js'
import type { GenerateOptions, Generation, LoadModelOptions, Model, Prompt } from '../types.js'
import { isPlainObject } from '../validate.js'
import { SharedModel, sharedModels } from './shared-models.js'

/** Options of `testModel`: those of `loadModel` that are the same for all who share the model. */
export type TestModelOptions = Omit<LoadModelOptions, 'onProgress' | 'signal'>

/** On one thread of the CPU results are the same everywhere, and workers share the cores. */
const DETERMINISTIC = { device: 'cpu', threads: 1 } as const

/** What `generate` takes where the test does not say otherwise. */
const GREEDY = { temperature: 0, seed: 0, maxTokens: 256 } as const

const models = new Map<string, Promise<Model>>()

/**
 * A loaded model for tests: the same one for all tests of a run where `nodemlx/testing/setup` is
 * the runner's global set-up; else for those of a file, or of a process where the runner keeps
 * modules. It computes on the CPU and takes the likeliest token unless told otherwise, so the same
 * prompt has the same answer every time. There is nothing to dispose of: `dispose` leaves the
 * model for the others, and it does not keep a process alive.
 *
 * @param model - What `loadModel` takes. @defaultValue 'demo'
 */
export function testModel(model = 'demo', options: TestModelOptions = {}): Promise<Model> {
  const key = JSON.stringify([model, options])
  const known = models.get(key)
  if (known !== undefined) return known
  const onCpu = options.device === undefined || options.device === 'cpu'
  const loading = loadShared(model, { ...(onCpu ? DETERMINISTIC : {}), ...options }).then(
    (loaded) => new TestModel(loaded),
  )
  models.set(key, loading)
  // The next test may have more luck.
  loading.catch(() => models.delete(key))
  return loading
}

/**
 * Loads a model, in the process that shares models where there is one. What the tests of other
 * files have asked there is nothing that a test's answers may depend on.
 */
async function loadShared(model: string, options: TestModelOptions): Promise<LoadedModel> {
  const shared = await sharedModels()
  if (shared === undefined) return load(model, options)
  const loaded = await shared.loadModel(model, { prefixCache: false, ...options })
  if (loaded instanceof LoadedModel) return loaded
  throw new NodeMlxError('INTERNAL_ERROR', 'the model is of another kind')
}

class TestModel extends SharedModel {
  override generate(prompt: Prompt, options?: GenerateOptions): Generation {
    if (options !== undefined && !isPlainObject(options)) return super.generate(prompt, options)
    const { speculation = false } = options ?? {}
    const given = Object.entries(options ?? {}).filter(([, value]) => value !== undefined)
    return super.generate(prompt, {
      ...GREEDY,
      // Other tests run at the same time. How much is guessed follows from time in any case.
      ...(speculation === false ? { deterministic: true } : {}),
      ...Object.fromEntries(given),
    })
  }
}
