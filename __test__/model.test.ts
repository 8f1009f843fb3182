import { beforeEach, describe, expect, it, vi } from 'vitest'
import { generate, loadModel, type Model } from '../js/index.js'
import { fakeInfo, FakeNative, nativeError, words } from './support/fake-native.js'

let native = new FakeNative()
vi.mock('../js/native.js', () => ({ getNative: () => native }))
// Every name but one is that of a folder: nothing is downloaded here.
vi.mock('../js/hub/locate.js', () => ({
  locate: (model: string) =>
    model.startsWith('missing/')
      ? Promise.reject(nativeError('MODEL_NOT_FOUND', 'there is none'))
      : Promise.resolve({ folder: `/models/${model}` }),
}))

beforeEach(() => {
  native = new FakeNative()
})

/** Loading that reports, and goes on until it is aborted. */
function loadsForever(reports = 1): void {
  native.onLoad = async (load) => {
    for (let n = 1; n <= reports; n++) {
      load.report({ stage: 'weights', loadedBytes: n, totalBytes: 100 })
    }
    while (!load.aborted) await new Promise((resolve) => setTimeout(resolve, 1))
    load.report({ stage: 'weights', loadedBytes: 99, totalBytes: 100 })
  }
}

describe('loadModel', () => {
  it('finds the folder, and passes on how to compute', async () => {
    await loadModel('owner/name', {
      device: 'cpu',
      dtype: 'float32',
      threads: 2,
      precision: 'exact',
    })
    await loadModel('owner/name')
    expect(native.loads).toEqual([
      {
        path: '/models/owner/name',
        device: 'cpu',
        dtype: 'float32',
        threads: 2,
        precision: 'exact',
      },
      { path: '/models/owner/name', device: 'auto', dtype: 'auto' },
    ])
  })

  it('reports progress', async () => {
    const onProgress = vi.fn()
    native.onLoad = (load) => {
      load.report({ stage: 'weights', loadedBytes: 1, totalBytes: 2 })
      return Promise.resolve()
    }
    await loadModel('a', { onProgress })
    expect(onProgress.mock.calls).toEqual([[{ stage: 'weights', loadedBytes: 1, totalBytes: 2 }]])
  })

  it('rejects with the code of what went wrong', async () => {
    await expect(loadModel('missing/model')).rejects.toMatchObject({
      name: 'NodeMlxError',
      code: 'MODEL_NOT_FOUND',
    })
    native.onLoad = () => Promise.reject(nativeError('INVALID_WEIGHTS', 'broken'))
    await expect(loadModel('a')).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
      message: 'broken',
    })
  })

  it.each([undefined, null, 5, '', {}])('rejects %o in place of a name', async (name) => {
    await expect(loadModel(name as string)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'model',
    })
  })

  it('does nothing with a signal that is aborted already', async () => {
    const reason = new Error('changed my mind')
    await expect(loadModel('a', { signal: AbortSignal.abort(reason) })).rejects.toMatchObject({
      code: 'ABORTED',
      cause: reason,
    })
    expect(native.loads).toEqual([])
  })

  it('is aborted by its signal, and reports nothing afterwards', async () => {
    loadsForever()
    const controller = new AbortController()
    const onProgress = vi.fn()
    const loading = loadModel('a', { signal: controller.signal, onProgress })
    const aborted = vi.waitFor(() => {
      expect(onProgress).toHaveBeenCalledOnce()
      controller.abort('enough')
    }, 20_000)
    await expect(loading).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' })
    await aborted
    expect(onProgress).toHaveBeenCalledOnce()
  })

  it('disposes of a model that came in spite of an abort', async () => {
    const controller = new AbortController()
    native.onLoad = (load) => {
      controller.abort()
      load.aborted = false
      return Promise.resolve()
    }
    await expect(loadModel('a', { signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    })
    expect(native.models[0]?.disposals).toBe(1)
  })

  it('ends where onProgress throws, and rejects with that', async () => {
    loadsForever(3)
    const mine = new Error('mine')
    const onProgress = vi.fn(() => {
      throw mine
    })
    await expect(loadModel('a', { onProgress })).rejects.toBe(mine)
    expect(onProgress).toHaveBeenCalledTimes(1)
  })
})

describe('a model', () => {
  let model: Model
  beforeEach(async () => {
    model = await loadModel('a')
  })
  const nativeModel = () => {
    const last = native.models.at(-1)
    if (last === undefined) throw new Error('no model was loaded')
    return last
  }

  it('has facts that nobody can change', () => {
    expect(model.info).toMatchObject({ architecture: 'llama', quantization: { bits: 4 } })
    expect(Object.isFrozen(model.info) && Object.isFrozen(model.info.quantization)).toBe(true)
  })

  it('tokenizes and detokenizes', async () => {
    expect(await model.tokenize('ab')).toEqual([97, 98])
    await model.tokenize('', { addSpecialTokens: false })
    await model.tokenize({ text: 'a', addSpecialTokens: true }, { splitSpecialTokens: true })
    await model.tokenize({ tokens: [1] })
    expect(await model.detokenize([1, 2])).toBe('1 2')
    await model.detokenize(Uint32Array.of(1), { skipSpecialTokens: true })
    expect(nativeModel().calls).toEqual([
      ['tokenize', { text: 'ab' }],
      ['tokenize', { text: '', addSpecialTokens: false }],
      ['tokenize', { text: 'a', addSpecialTokens: true, splitSpecialTokens: true }],
      ['tokenize', { tokens: Uint32Array.of(1) }],
      ['detokenize', Uint32Array.of(1, 2), false],
      ['detokenize', Uint32Array.of(1), true],
    ])
  })

  it('counts the tokens of every kind of prompt', async () => {
    const messages = [{ role: 'user', content: 'Hi' }]
    const messagesJson = JSON.stringify(messages)
    const templateOptionsJson = '{"addGenerationPrompt":true,"continueFinalMessage":false}'
    expect(await model.countTokens('Hi')).toBe(7)
    await model.countTokens(messages, { splitSpecialTokens: true })
    await model.countTokens({ text: 'Hi' })
    await model.tokenize(messages)
    expect(nativeModel().calls).toEqual([
      ['countTokens', { messagesJson, templateOptionsJson }],
      ['countTokens', { messagesJson, templateOptionsJson, splitSpecialTokens: true }],
      ['countTokens', { text: 'Hi' }],
      ['tokenize', { messagesJson, templateOptionsJson }],
    ])
  })

  it('applies its chat template', async () => {
    const messages = [{ role: 'user', content: 'Hi' }]
    expect(
      await model.applyChatTemplate(messages, { templateVariables: { enable_thinking: false } }),
    ).toBe('<prompt>')
    expect(nativeModel().calls).toEqual([
      [
        'applyChatTemplate',
        messages,
        {
          addGenerationPrompt: true,
          continueFinalMessage: false,
          variables: { enable_thinking: false },
        },
      ],
    ])
  })

  it('gives logits', async () => {
    const { data, shape } = await model.logits([1, 2, 3])
    expect(shape).toEqual([3, 100])
    expect(data).toHaveLength(300)
  })

  it('rejects wrong arguments, and names them', async () => {
    const refused = (option: string) =>
      expect.objectContaining({ code: 'INVALID_ARGUMENT', option }) as Error
    await expect(model.tokenize(5 as never)).rejects.toEqual(refused('prompt'))
    await expect(model.tokenize('\uD800')).rejects.toEqual(refused('prompt'))
    await expect(
      model.tokenize([{ role: 'user', content: 'a' }], { addSpecialTokens: true }),
    ).rejects.toEqual(refused('addSpecialTokens'))
    await expect(
      model.tokenize({ text: 'a', addSpecialTokens: false }, { addSpecialTokens: true }),
    ).rejects.toEqual(refused('addSpecialTokens'))
    await expect(model.tokenize('a', { tools: [] })).rejects.toEqual(refused('tools'))
    await expect(model.countTokens('a', { maxTokens: 1 } as object)).rejects.toEqual(
      refused('maxTokens'),
    )
    await expect(model.countTokens({ tokens: [1] }, { splitSpecialTokens: true })).rejects.toEqual(
      refused('splitSpecialTokens'),
    )
    await expect(model.tokenize('a', { addSpecialToken: true } as object)).rejects.toEqual(
      refused('addSpecialToken'),
    )
    await expect(model.detokenize('a' as never)).rejects.toEqual(refused('tokens'))
    await expect(model.detokenize([2 ** 32])).rejects.toEqual(refused('tokens[0]'))
    await expect(model.logits([Number.NaN])).rejects.toEqual(refused('tokens[0]'))
    await expect(model.applyChatTemplate('Hi' as never)).rejects.toEqual(refused('messages'))
    await expect(model.applyChatTemplate([])).rejects.toEqual(refused('messages'))
    await expect(
      model.applyChatTemplate([{ role: 'user', content: 'x' }], { tool: 1 } as object),
    ).rejects.toEqual(refused('tool'))
  })

  it('starts nothing where the signal is aborted already', async () => {
    const result = await model.generate('Hi', { signal: AbortSignal.abort('no') })
    expect(result).toMatchObject({ text: '', finishReason: 'abort', abortReason: 'no' })
    expect(nativeModel().generations).toEqual([])
  })

  it('is disposed of once, and refuses everything afterwards', async () => {
    await Promise.all([model.dispose(), model.dispose()])
    await model.dispose()
    expect(nativeModel().disposals).toBe(1)
    expect(model.disposed).toBe(true)
    expect(model.info.layers).toBe(4)
    expect(() => model.generate('Hi')).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
    await expect(model.tokenize('a')).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(model.logits([1])).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  it('is disposed of at the end of its scope', async () => {
    {
      await using scoped = model
      expect(scoped.disposed).toBe(false)
    }
    expect(model.disposed).toBe(true)
  })
})

describe('generate', () => {
  const disposals = () => native.models.map((model) => model.disposals)

  it('loads, answers, and disposes of the model', async () => {
    const { text } = await generate('a', 'Hi', { device: 'cpu', maxTokens: 5 })
    expect(text).toBe('Hello world')
    expect(native.loads).toEqual([{ path: '/models/a', device: 'cpu', dtype: 'auto' }])
    expect(native.models[0]?.generations[0]?.request).toMatchObject({ maxTokens: 5 })
    expect(disposals()).toEqual([1])
  })

  it('streams', async () => {
    const texts: string[] = []
    for await (const text of generate('a', 'Hi').textStream) texts.push(text)
    expect(texts).toEqual(['Hello', ' world'])
    expect(disposals()).toEqual([1])
  })

  it('throws at once where an argument is wrong, and loads nothing', () => {
    expect(() => generate('', 'Hi')).toThrow(/^model: is empty/)
    expect(() => generate('a', '')).toThrow(/^prompt: is empty/)
    expect(() => generate('a', 'Hi', { devise: 'cpu' } as object)).toThrow(/did you mean device/)
    expect(() => generate('a', 'Hi', { topP: '2' } as object)).toThrow(/^topP/)
    expect(native.loads).toEqual([])
  })

  it('rejects where the model cannot be loaded', async () => {
    await expect(generate('missing/x', 'Hi').then()).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
  })

  it('disposes of the model where generating fails', async () => {
    native.answer = () => [nativeError('MLX_ERROR', 'broken')]
    await expect(generate('a', 'Hi').then()).rejects.toMatchObject({ code: 'MLX_ERROR' })
    native.info = fakeInfo({ vocabularySize: 1 })
    await expect(generate('a', { tokens: [5] }).then()).rejects.toMatchObject({
      option: 'prompt.tokens[0]',
    })
    expect(disposals()).toEqual([1, 1])
  })

  it('ends with an abort while loading', async () => {
    loadsForever()
    const generation = generate('a', 'Hi')
    setTimeout(() => {
      generation.abort('enough')
    }, 5)
    expect(await generation).toMatchObject({
      text: '',
      finishReason: 'abort',
      abortReason: 'enough',
    })
    expect(native.models).toEqual([])
  })

  it('disposes of the model where the reader leaves', async () => {
    native.answer = () => words('Hello', ' world').slice(0, -1)
    const generation = generate('a', 'Hi')
    for await (const text of generation.textStream) if (text === 'Hello') break
    expect((await generation).finishReason).toBe('abort')
    expect(disposals()).toEqual([1])
  })

  it('loads nothing with a signal that is aborted already', async () => {
    expect((await generate('a', 'Hi', { signal: AbortSignal.abort() })).finishReason).toBe('abort')
    expect(native.loads).toEqual([])
  })
})
