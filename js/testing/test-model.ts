import { load, LoadedModel } from '../model.js'
import type { GenerateOptions, Generation, LoadModelOptions, Model, Prompt } from '../types.js'
import { isPlainObject } from '../validate.js'

/** Options of `testModel`: those of `loadModel` that are the same for all who share the model. */
export type TestModelOptions = Omit<LoadModelOptions, 'onProgress' | 'signal'>

/** On one thread of the CPU results are the same everywhere, and workers share the cores. */
const DETERMINISTIC = { device: 'cpu', threads: 1 } as const

/** What `generate` takes where the test does not say otherwise. */
const GREEDY = { temperature: 0, seed: 0, maxTokens: 256 } as const

const models = new Map<string, Promise<Model>>()

/**
 * A loaded model for tests: the same one for all tests of a file, or of a process where the runner
 * keeps modules. It computes on the CPU and takes the likeliest token unless told otherwise, so the
 * same prompt has the same answer every time. There is nothing to dispose of: `dispose` leaves the
 * model for the others, and it does not keep a process alive.
 *
 * @param model - What `loadModel` takes. @defaultValue 'demo'
 */
export function testModel(model = 'demo', options: TestModelOptions = {}): Promise<Model> {
  const key = JSON.stringify([model, options])
  const known = models.get(key)
  if (known !== undefined) return known
  const onCpu = options.device === undefined || options.device === 'cpu'
  const loading = load(model, { ...(onCpu ? DETERMINISTIC : {}), ...options }).then(
    (loaded) => new TestModel(loaded),
  )
  models.set(key, loading)
  // The next test may have more luck.
  loading.catch(() => models.delete(key))
  return loading
}

class TestModel extends LoadedModel {
  readonly #loaded: LoadedModel

  constructor(loaded: LoadedModel) {
    super(loaded.native, loaded.info.maxContextLength)
    this.#loaded = loaded
  }

  /** With the adapter that the model was loaded with. */
  override prepare(
    ...args: Parameters<LoadedModel['prepare']>
  ): ReturnType<LoadedModel['prepare']> {
    return this.#loaded.prepare(...args)
  }

  override generate(prompt: Prompt, options?: GenerateOptions): Generation {
    if (options === undefined) return super.generate(prompt, GREEDY)
    if (!isPlainObject(options)) return super.generate(prompt, options)
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    return super.generate(prompt, { ...GREEDY, ...Object.fromEntries(given) })
  }

  override dispose(): Promise<void> {
    return Promise.resolve()
  }
}
