import type { NativeResult } from '../native.js'
import type { Script, Step } from './answers.js'
import { patternWith } from './patterns.js'
import { decode } from './vocabulary.js'

/** An answer as a generation gives it: with its end. */
export interface Play {
  steps: Step[]
  finishReason: 'stop' | 'length'
  matched?: NonNullable<NativeResult['matched']>
  /** How long what the model wrote is before a stop string. */
  rawLength?: number
  promptMs: number
}

/** What ends an answer: strings, sources of regular expressions, and tokens. */
export interface Stops {
  strings?: readonly string[] | undefined
  patterns?: readonly string[] | undefined
  tokens?: readonly number[] | undefined
  /** How many tokens there are before any of them counts. */
  minTokens?: number | undefined
}

/** Ends an answer where a stop appears, or where it has as many tokens as it may. */
export function limit(script: Script, stops: Stops, maxTokens: number): Play {
  const stopped = stop(stopAtToken(script, stops), stops)
  const { matched, steps } = stopped
  // What ends an answer is a token itself, unless it is a text.
  const tokens = count(steps) + (matched?.kind === 'token' ? 1 : 0)
  return tokens <= maxTokens && matched !== undefined ? stopped : atMost(stopped, maxTokens)
}

/** How many tokens steps have. */
export function count(steps: readonly Step[]): number {
  return steps.reduce((sum, { tokens }) => sum + tokens.length, 0)
}

/** What a step adds to the answer's text. */
export function textIn({ piece }: Step): string {
  return piece?.type === 'text' ? piece.text : ''
}

interface Found {
  kind: 'string' | 'pattern'
  text: string
  start: number
  end: number
}

/** Where a pattern first matches: with the first end, and of those the longest. */
function match(text: string, pattern: string): Found[] {
  const ending = patternWith('', pattern, '$')
  for (let end = 1; end <= text.length; end++) {
    const found = ending.exec(text.slice(0, end))
    if (found) return [{ kind: 'pattern', text: found[0], start: found.index, end }]
  }
  return []
}

function find(text: string, string: string): Found[] {
  const start = text.indexOf(string)
  return start === -1 ? [] : [{ kind: 'string', text: string, start, end: start + string.length }]
}

/** Ends an answer before a stop token, which is no part of it. */
function stopAtToken(script: Script, { tokens = [], minTokens = 0 }: Stops): Play {
  const all = script.steps.flatMap((step) => step.tokens)
  const at = all.findIndex((token, index) => index >= minTokens && tokens.includes(token))
  const number = all[at]
  if (number === undefined) return script
  return { ...atMost(script, at), finishReason: 'stop', matched: { kind: 'token', number } }
}

function stop(script: Play, { strings = [], patterns = [], minTokens = 0 }: Stops): Play {
  const text = script.steps.map(textIn).join('')
  let tokens = 0
  const early = script.steps.filter((step) => (tokens += step.tokens.length) < minTokens)
  const from = early.map(textIn).join('').length
  const rest = text.slice(from)
  const [found] = [
    ...strings.flatMap((string) => find(rest, string)),
    ...patterns.flatMap((pattern) => match(rest, pattern)),
  ]
    .map((it) => ({ ...it, start: it.start + from, end: it.end + from }))
    .sort((a, b) => a.end - b.end || a.start - b.start)
  if (found === undefined) return script
  const steps: Step[] = []
  let at = 0
  let rawLength = 0
  for (const step of script.steps) {
    const piece = textIn(step)
    const kept = piece.slice(0, Math.max(0, found.start - at))
    if (at <= found.start) rawLength += piece === kept ? step.raw.length : kept.length
    at += piece.length
    steps.push(
      piece === kept || step.piece === undefined
        ? step
        : { ...step, piece: { ...step.piece, text: kept } },
    )
    if (at >= found.end) break
  }
  const matched = { kind: found.kind, text: found.text }
  return { ...script, steps, finishReason: 'stop', matched, rawLength }
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
