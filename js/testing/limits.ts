import type { Script, Step } from './answers.js'
import { decode } from './vocabulary.js'

/** An answer as a generation gives it: with its end. */
export interface Play {
  steps: Step[]
  finishReason: 'stop' | 'length'
  stopString?: string
  promptMs: number
}

/** Ends an answer where a stop string appears, or where it has as many tokens as it may. */
export function limit(script: Script, stops: readonly string[], maxTokens: number): Play {
  const stopped = stop(script, stops)
  return count(stopped.steps) <= maxTokens && stopped.stopString !== undefined
    ? stopped
    : atMost(stopped, maxTokens)
}

function count(steps: readonly Step[]): number {
  return steps.reduce((sum, { tokens }) => sum + tokens.length, 0)
}

function textIn({ piece }: Step): string {
  return piece?.type === 'text' ? piece.text : ''
}

function stop(script: Script, stops: readonly string[]): Play {
  const text = script.steps.map(textIn).join('')
  const [found] = stops
    .map((string) => ({ string, start: text.indexOf(string), end: 0 }))
    .filter(({ start }) => start !== -1)
    .map((it) => ({ ...it, end: it.start + it.string.length }))
    .sort((a, b) => a.end - b.end || a.start - b.start)
  if (found === undefined) return script
  const steps: Step[] = []
  let at = 0
  for (const step of script.steps) {
    const piece = textIn(step)
    const kept = piece.slice(0, Math.max(0, found.start - at))
    at += piece.length
    steps.push(
      piece === kept || step.piece === undefined
        ? step
        : { ...step, piece: { ...step.piece, text: kept } },
    )
    if (at >= found.end) break
  }
  return { ...script, steps, finishReason: 'stop', stopString: found.string }
}

function atMost(script: Script, maxTokens: number): Play {
  const { steps } = script
  const { finishReason, promptMs } = script
  const kept: Step[] = []
  let room = maxTokens
  /** What a call that has begun was written as, so far. */
  let open: { index: number; raw: string } | undefined
  for (const step of steps) {
    const { piece, tokens } = step
    if (tokens.length > room) break
    room -= tokens.length
    kept.push(step)
    if (piece?.type === 'tool-call-start') open = { index: piece.index, raw: '' }
    if (open !== undefined) open.raw += step.raw
    if (piece?.type === 'tool-call-end') open = undefined
    if (room === 0) break
  }
  const next = steps[kept.length]
  if (room > 0 && next === undefined) return { steps: kept, finishReason, promptMs }
  if (room > 0 && next !== undefined) kept.push(beginning(next, room, open))
  if (open !== undefined) {
    const error = 'the answer ends within the call'
    const piece = { type: 'tool-call-invalid' as const, text: open.raw, index: open.index, error }
    kept.push({ ms: 0, raw: '', tokens: [], piece })
  }
  return { steps: kept, finishReason: 'length', promptMs }
}

/** As much of a step as there is room for. */
function beginning(step: Step, room: number, open: { raw: string } | undefined): Step {
  const tokens = step.tokens.slice(0, room)
  const text = decode(tokens)
  const type = step.piece?.type
  if (open !== undefined) open.raw += text
  const isText = type === 'text' || type === 'reasoning'
  const piece = isText ? { type, text, index: 0 } : undefined
  return { ms: step.ms, raw: text, tokens, ...(piece === undefined ? {} : { piece }) }
}
