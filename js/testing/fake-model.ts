import { invalidArgument } from '../errors.js'
import { LoadedModel } from '../model.js'
import type { Model, ModelInfo } from '../types.js'
import { fields, isPlainObject, show, type Check } from '../validate.js'
import {
  checkAnswer,
  SPEED_FIELDS,
  type FakeAnswer,
  type FakeAnswers,
  type FakeRequest,
} from './answers.js'
import { ScriptedModel } from './scripted-model.js'
import { END_TOKEN, VOCABULARY_SIZE } from './vocabulary.js'

/** Options of `fakeModel`. */
export interface FakeModelOptions {
  /**
   * What the model answers: always the same, a list with an answer for each generation in turn, or
   * what a function makes of the request.
   */
  answers: FakeAnswers
  /** Fields of `model.info` that are to differ. */
  info?: Partial<ModelInfo> | undefined
  /** Milliseconds until a prompt has been read. @defaultValue 0 */
  promptMs?: number | undefined
  /** Milliseconds for each token. @defaultValue 0 */
  tokenMs?: number | undefined
}

/** A model that answers what it was told to. */
export interface FakeModel extends Model {
  /** What it was asked so far. */
  readonly requests: readonly FakeRequest[]
}

const INFO: ModelInfo = {
  architecture: 'fake',
  modelType: 'fake',
  parameters: 0,
  bytes: 0,
  quantization: null,
  contextLength: 4096,
  vocabularySize: VOCABULARY_SIZE,
  layers: 0,
  device: 'cpu',
  dtype: 'float32',
  maxSequences: 16,
  hasTokenizer: true,
  hasChatTemplate: true,
  eosTokens: [END_TOKEN],
  capabilities: { generate: true, embed: true, rerank: true },
  embedding: {
    declared: true,
    dimensions: 256,
    pooling: ['mean'],
    normalize: true,
    tasks: ['query', 'document'],
  },
  generationDefaults: {},
  path: '/fake',
  warnings: [],
}

const info: Check<Partial<ModelInfo>> = (value, option) => {
  if (!isPlainObject(value)) throw invalidArgument(option, `expected an object, got ${show(value)}`)
  const known = Object.fromEntries(
    [...Object.keys(INFO), 'maxContextLength'].map((name) => [name, (it: unknown) => it]),
  )
  return fields(value, option, known)
}

/**
 * A model without weights that answers what the test says. Everything else is as with a loaded
 * model: options are checked, streams wait for their reader, aborts and limits end answers.
 */
export function fakeModel(options: FakeModelOptions): FakeModel {
  const checked = fields(options, '', {
    answers: (value: unknown) => value as FakeAnswers,
    info,
    ...SPEED_FIELDS,
  })
  if (checked.answers === undefined) throw invalidArgument('answers', 'is missing')
  const { promptMs = 0, tokenMs = 0 } = checked
  const native = new ScriptedModel(
    { ...INFO, ...checked.info },
    { answer: answering(checked.answers), promptMs, tokenMs },
  )
  return new ScriptedLoadedModel(native)
}

class ScriptedLoadedModel extends LoadedModel implements FakeModel {
  readonly #scripted: ScriptedModel

  constructor(scripted: ScriptedModel) {
    super(scripted)
    this.#scripted = scripted
  }

  get requests(): readonly FakeRequest[] {
    return this.#scripted.requests
  }
}

/** The answer to each request. */
function answering(
  answers: FakeAnswers,
): (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer> {
  if (typeof answers === 'function')
    return async (request) => checkAnswer(await answers(request), 'answers()')
  if (!Array.isArray(answers)) {
    const answer = checkAnswer(answers, 'answers')
    return () => answer
  }
  const all = Array.from(answers, (answer: unknown, index) =>
    checkAnswer(answer, `answers[${index}]`),
  )
  return ({ index }) => {
    const answer = all[index]
    if (answer !== undefined) return answer
    throw new Error(
      `the fake model has no answer for generation ${index + 1}: there are ${all.length}`,
    )
  }
}
