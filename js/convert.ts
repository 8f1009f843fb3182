import { resolve } from 'node:path'
import { callBack } from './callbacks.js'
import { aborted, fromNative, invalidArgument } from './errors.js'
import { adapterFolder } from './hub/adapter.js'
import { ensure } from './hub/download.js'
import { locate } from './hub/locate.js'
import {
  getNative,
  type Native,
  type NativeCalibration,
  type NativeConvertRequest,
} from './native.js'
import { convertOptions } from './options.js'
import { onAbort } from './signal.js'
import type {
  CalibrateOptions,
  ConvertModelOptions,
  ConvertReport,
  DownloadModelOptions,
  LoadProgress,
} from './types.js'
import { nonEmptyString } from './validate.js'

/**
 * Writes a checkpoint anew, in the layout of mlx-lm: quantized, dequantized, or in another type.
 * One tensor after the other is read and written, so that memory holds little more than the largest
 * of them.
 *
 * @param source - What `loadModel` takes.
 * @param target - The folder to make. It appears when it is whole.
 */
export async function convertModel(
  source: string,
  target: string,
  options?: ConvertModelOptions,
): Promise<ConvertReport> {
  const checked = convertOptions(options)
  const name = nonEmptyString(source, 'source')
  const folder = resolve(nonEmptyString(target, 'target'))
  const { signal } = checked
  const conversion = new Converting(checked)
  if (signal?.aborted === true) conversion.abort(signal.reason)
  const forget =
    signal &&
    onAbort(signal, () => {
      conversion.abort(signal.reason)
    })
  try {
    return await conversion.run(name, folder)
  } finally {
    forget?.()
  }
}

/** A conversion, and what ended it before its time. */
class Converting {
  readonly #options: ConvertModelOptions
  readonly #controller = new AbortController()
  #ended: { error: unknown } | undefined

  constructor(options: ConvertModelOptions) {
    this.#options = options
  }

  abort(reason: unknown): void {
    this.#end(aborted('The conversion', reason))
  }

  #end(error: unknown): void {
    this.#ended ??= { error }
    this.#controller.abort()
  }

  async run(source: string, target: string): Promise<ConvertReport> {
    try {
      // First: without the addon nothing else matters.
      const native = getNative()
      this.#goOn()
      const request = convertRequest(await this.#folder(source), target, this.#options)
      const adapter = await this.#adapter()
      this.#goOn()
      return await this.#convert(native, adapter === undefined ? request : { ...request, adapter })
    } catch (error) {
      throw this.#ended === undefined ? fromNative(error) : this.#ended.error
    }
  }

  async #folder(name: string): Promise<string> {
    const { revision, cacheDir } = this.#options
    const { folder, repository } = await locate(name, revision, cacheDir)
    if (folder !== undefined) return folder
    // Nothing is loaded as a whole, so any size will do.
    return ensure(repository, this.#download(), () => Promise.resolve())
  }

  async #adapter(): Promise<string | undefined> {
    const { adapter } = this.#options
    if (adapter === undefined) return undefined
    // The revision is that of the model.
    return adapterFolder(adapter, { ...this.#download(), revision: undefined })
  }

  #download(): DownloadModelOptions {
    const { token, endpoint, cacheDir, offline, fetch, revision } = this.#options
    const onProgress = (progress: LoadProgress): void => {
      this.#report(progress)
    }
    const { signal } = this.#controller
    return { token, endpoint, cacheDir, offline, fetch, revision, onProgress, signal }
  }

  async #convert(native: Native, request: NativeConvertRequest): Promise<ConvertReport> {
    const { conversion, report } = native.convertModel(
      request,
      ({ stage, doneBytes, totalBytes }) => {
        this.#report({ stage, loadedBytes: doneBytes, totalBytes })
      },
    )
    const forget = onAbort(this.#controller.signal, () => {
      conversion.abort()
    })
    try {
      return await report
    } finally {
      forget()
      // Ended by now; until here it must not be collected.
      conversion.abort()
    }
  }

  #report(progress: LoadProgress): void {
    // Reports can come late.
    if (this.#ended !== undefined) return
    callBack(this.#options.onProgress, { ...progress }, (error) => {
      this.#end(error)
    })
  }

  /** Throws where the conversion was ended. */
  #goOn(): void {
    if (this.#ended !== undefined) throw this.#ended.error
  }
}

/** The addon's form of a conversion. */
function convertRequest(
  source: string,
  target: string,
  options: ConvertModelOptions,
): NativeConvertRequest {
  const { bits, groupSize, mode, recipe, layers, dtype, dequantize, overwrite } = options
  const { calibrate } = options
  const quantize = [bits, groupSize, mode, recipe, layers, calibrate].some(
    (option) => option !== undefined,
  )
  if (quantize && dequantize === true) {
    throw invalidArgument('dequantize', 'does not go together with options of a quantization')
  }
  if (recipe !== undefined && bits !== undefined) {
    throw invalidArgument('recipe', `says itself how many bits a layer gets; leave out bits`)
  }
  if (recipe !== undefined && mode !== undefined && mode !== 'affine') {
    throw invalidArgument('recipe', `goes with the mode 'affine' alone`)
  }
  if (calibrate !== undefined) checkCalibration(options, calibrate)
  return {
    source,
    target,
    quantize,
    layers: Object.entries(layers ?? {}).map(([pattern, value]) => ({ pattern, bits: value })),
    dequantize: dequantize ?? false,
    overwrite: overwrite ?? false,
    ...(bits === undefined ? {} : { bits }),
    ...(groupSize === undefined ? {} : { groupSize }),
    ...(mode === undefined ? {} : { mode }),
    ...(recipe === undefined ? {} : { recipe }),
    ...(calibrate === undefined ? {} : { calibrate: definedOf(calibrate) }),
    ...(dtype === undefined ? {} : { dtype }),
  }
}

function definedOf({ text, bits, bytes }: CalibrateOptions): NativeCalibration {
  return {
    text,
    ...(bits === undefined ? {} : { bits }),
    ...(bytes === undefined ? {} : { bytes }),
  }
}

/** What chooses bits itself goes together with nothing that says them for the whole. */
function checkCalibration(
  { bits, mode, recipe, adapter }: ConvertModelOptions,
  { bits: wantedBits, bytes }: CalibrateOptions,
): void {
  if ((wantedBits === undefined) === (bytes === undefined))
    throw invalidArgument('calibrate', 'needs the size that is wanted: either bits or bytes')
  const others = { bits, recipe, adapter, ...(mode === 'affine' ? {} : { mode }) }
  const [other] = Object.entries(others).find(([, value]) => value !== undefined) ?? []
  if (other === 'adapter')
    throw invalidArgument('calibrate', 'does not go together with adapter; fuse it first')
  if (other !== undefined)
    throw invalidArgument(
      'calibrate',
      `chooses bits of the mode 'affine' itself; leave out ${other}`,
    )
}
