/** A server-sent event. JSON has no line breaks of its own. */
export function frame(data: unknown, event?: string): string {
  const text = typeof data === 'string' ? data : JSON.stringify(data)
  return `${event === undefined ? '' : `event: ${event}\n`}data: ${text}\n\n`
}

/** A comment, which keeps proxies and clients from taking a silent stream for a dead one. */
export const COMMENT = ': keep-alive\n\n'

export interface EventStream {
  /** The frames, in their order. Returned early when the reader leaves. */
  frames: AsyncGenerator<string, undefined>
  /** What a silent stream says. */
  ping: string
  keepAliveMs: number
  /** The frame that tells of an error. */
  failed: (error: unknown) => string
  /** Called when the reader leaves: whatever `frames` waits for is to end soon. */
  left: () => void
}

const SILENT = Symbol('silent')

/**
 * A response of server-sent events. It is given when the first frame is there, so that what fails
 * before has a status of its own; or when that takes longer than a client may wait for a sign.
 */
export async function streamResponse(stream: EventStream): Promise<Response> {
  const { frames, ping, keepAliveMs, failed, left } = stream
  const encoder = new TextEncoder()
  let pending: Promise<IteratorResult<string, undefined>> | undefined = frames.next()
  // It also rejects where nobody waits any more.
  pending.catch(() => undefined)
  const first = await orSilent(pending, keepAliveMs)
  let ready: IteratorResult<string, undefined> | undefined
  if (first !== SILENT) {
    ready = first
    pending = undefined
  }
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let next: string | undefined
        try {
          if (ready === undefined) {
            pending ??= frames.next()
            const result = await orSilent(pending, keepAliveMs)
            if (result === SILENT) {
              controller.enqueue(encoder.encode(ping))
              return
            }
            pending = undefined
            ready = result
          }
          next = ready.value
          ready = undefined
        } catch (error) {
          controller.enqueue(encoder.encode(failed(error)))
          controller.close()
          return
        }
        if (next === undefined) controller.close()
        else controller.enqueue(encoder.encode(next))
      },
      async cancel() {
        left()
        pending?.catch(() => undefined)
        await frames.return(undefined).catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // nginx would collect the events otherwise.
      'x-accel-buffering': 'no',
    },
  })
}

async function orSilent<T>(promise: Promise<T>, ms: number): Promise<T | typeof SILENT> {
  let timer: NodeJS.Timeout | undefined
  const silent = new Promise<typeof SILENT>((resolve) => {
    timer = setTimeout(resolve, ms, SILENT)
  })
  try {
    return await Promise.race([promise, silent])
  } finally {
    clearTimeout(timer)
  }
}
