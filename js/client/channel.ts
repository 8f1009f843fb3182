import { invalidArgument } from '../errors.js'
import { isOurs, type Message } from './protocol.js'

/**
 * What messages go through: a `MessagePort` (of worker threads, Electron's main process or a
 * page), a `Worker`, a child process or `process` in one, Electron's `UtilityProcess` or
 * `process.parentPort` in one.
 */
export interface Port {
  postMessage?: (message: never) => unknown
  send?: unknown
  on?: (event: never, listener: never) => unknown
  addEventListener?: (event: never, listener: never) => unknown
}

/** A port, whatever its kind. */
export interface Channel {
  post(message: Message): void
  /** Whether what is going on keeps the process alive. */
  hold(held: boolean): void
  /** Listens no more. What others do with the port goes on. */
  close(): void
  /** Says something last, and ends the port itself, as far as its kind can be ended. */
  end(last: Message): void
}

/** What the different kinds of ports have, some of them this and some that. */
interface AnyPort {
  postMessage?: (message: Message) => void
  send?: (message: Message, done: (error: Error | null) => void) => void
  on?: (event: string, listener: (value: unknown) => void) => void
  off?: (event: string, listener: (value: unknown) => void) => void
  addEventListener?: (event: string, listener: (value: unknown) => void) => void
  removeEventListener?: (event: string, listener: (value: unknown) => void) => void
  start?: () => void
  close?: () => void
  connected?: boolean
  disconnect?: () => void
  ref?: () => void
  unref?: () => void
  channel?: { ref?: () => void; unref?: () => void } | null
}

/**
 * The events that say that nothing comes any more. A thread that throws or has no memory left, a
 * utility process that V8 gives up and a program that cannot be started say so by `error`, which
 * would end whoever does not listen to it.
 */
const ENDS = ['error', 'close', 'exit', 'disconnect']

/** Why a port has ended, by the event that says so. */
function reasonOf(event: string, value: unknown): string {
  if (event === 'exit') return `it ended with the code ${String(value)}`
  if (event !== 'error') return 'its channel is closed'
  // Electron names the kind of error; a page's worker has an event.
  const { message } = (value ?? {}) as { message?: unknown }
  const what = typeof message === 'string' && message !== '' ? message : value
  return typeof what === 'string' ? `it failed: ${what}` : 'it failed'
}

/** Ports whose errors are no longer of interest, and have a listener that says so. */
const quiet = new WeakSet<object>()

/** What a channel hears. */
export interface Listener {
  onMessage: (message: Message) => void
  onEnd: (reason: string) => void
}

/**
 * Listens to a port. Messages of others that go through the same port are left alone.
 *
 * @throws NodeMlxError where it is none.
 */
export function openChannel(port: unknown, option: string, listener: Listener): Channel {
  const any = (typeof port === 'object' && port !== null ? port : {}) as AnyPort
  const canListen = typeof any.on === 'function' || typeof any.addEventListener === 'function'
  const canPost = typeof any.postMessage === 'function' || typeof any.send === 'function'
  if (!canListen || !canPost)
    throw invalidArgument(
      option,
      'expected a MessagePort, a Worker, a child process with a channel or a UtilityProcess',
    )
  const listen = (event: string, heard: (value: unknown) => void): (() => void) => {
    if (any.on !== undefined) any.on(event, heard)
    else any.addEventListener?.(event, heard)
    return () => {
      if (any.off !== undefined) any.off(event, heard)
      else any.removeEventListener?.(event, heard)
    }
  }
  let isOpen = true
  const forget: (() => void)[] = []
  const end = (reason: string): void => {
    if (!isOpen) return
    isOpen = false
    for (const stop of forget) stop()
    // A host that was told to end may yet fail at that, as one that fails may do so twice.
    if (!quiet.has(any)) listen('error', () => undefined)
    quiet.add(any)
    listener.onEnd(reason)
  }
  forget.push(
    listen('message', (value) => {
      // Electron and pages wrap the message in an event.
      const message = isOurs(value) ? value : (value as { data?: unknown } | null)?.data
      if (isOurs(message)) listener.onMessage(message)
    }),
    ...ENDS.map((event) =>
      listen(event, (value) => {
        end(reasonOf(event, value))
      }),
    ),
  )
  any.start?.()
  const post = (message: Message, posted: () => void): void => {
    if (any.postMessage === undefined) {
      // A channel that is closing says so by an error, and then by an event.
      any.send?.(message, posted)
      return
    }
    any.postMessage(message)
    posted()
  }
  return {
    post(message) {
      if (isOpen) post(message, () => undefined)
    },
    hold(held) {
      const which = held ? 'ref' : 'unref'
      any[which]?.()
      any.channel?.[which]?.()
    },
    close() {
      end('it was closed')
    },
    end(last) {
      if (!isOpen) return
      end('it was closed')
      post(last, () => {
        any.close?.()
        if (any.connected === true) any.disconnect?.()
      })
    },
  }
}
