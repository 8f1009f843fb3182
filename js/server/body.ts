import { show } from '../validate.js'
import { Failure } from './failure.js'
import type { Limits } from './limits.js'

/** Deeper values are no request of these APIs, and would overflow the stack of who walks them. */
const DEEPEST = 200

/**
 * The body of a request: JSON in UTF-8, within the limits of size and time. Other content types are
 * refused because a form of another site can be posted without asking the browser's user.
 */
export async function readJson(request: Request, limits: Limits): Promise<unknown> {
  const type = request.headers.get('content-type') ?? ''
  if (!/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(type.trim())) {
    const got = type === '' ? 'none' : JSON.stringify(type.slice(0, 80))
    throw new Failure(
      'media-type',
      `the body has to be JSON, with the content type application/json; got ${got}`,
    )
  }
  const encoding = request.headers.get('content-encoding') ?? 'identity'
  if (encoding.toLowerCase() !== 'identity')
    throw new Failure(
      'media-type',
      `the body has to come as it is, without the content encoding ${show(encoding)}`,
    )
  const text = decode(await readBytes(request, limits))
  const value = parse(text)
  checkDepth(value)
  return value
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Failure('invalid', 'the body is not well-formed UTF-8')
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const why = error instanceof Error ? error.message : 'it does not parse'
    throw new Failure('invalid', `the body is not valid JSON: ${why}`)
  }
}

function checkDepth(value: unknown): void {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEEPEST)
      throw new Failure('invalid', `the body is nested more than ${DEEPEST} deep`)
    level = level.flatMap((item) =>
      typeof item === 'object' && item !== null ? (Object.values(item) as unknown[]) : [],
    )
  }
}

async function readBytes(request: Request, limits: Limits): Promise<Uint8Array> {
  const { bodyBytes, bodyMs } = limits
  if (Number(request.headers.get('content-length') ?? 0) > bodyBytes) throw tooLarge(bodyBytes)
  const body: ReadableStream<Uint8Array> | null = request.body
  const reader = body?.getReader()
  if (reader === undefined) return new Uint8Array()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Failure('timeout', `the body took longer than ${bodyMs} ms to arrive`))
    }, bodyMs)
  })
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), late])
      if (done) return Buffer.concat(chunks)
      size += value.byteLength
      if (size > bodyBytes) throw tooLarge(bodyBytes)
      chunks.push(value)
    }
  } catch (error) {
    // Not awaited: what is slow to arrive is slow to be cancelled.
    void reader.cancel().catch(() => undefined)
    if (error instanceof Failure) throw error
    throw new Failure('invalid', 'the body was cut off', { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

function tooLarge(bytes: number): Failure {
  return new Failure('too-large', `the body is larger than ${bytes} bytes`)
}
