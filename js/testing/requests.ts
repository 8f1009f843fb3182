import { invalidArgument } from '../errors.js'
import type { NativeGenerateRequest, NativeResponseFormat } from '../native.js'
import type { Script, Step } from './answers.js'
import { count, textIn } from './limits.js'
import { patternWith } from './patterns.js'
import { openAnswer } from './template.js'

/** Refuses options that contradict each other, as the engine does. */
export function checkRequest(request: NativeGenerateRequest): void {
  const { promptCache } = request
  const limits = [request.maxKvSize, request.kvBits, request.kvGroupSize]
  if (promptCache !== undefined && limits.some((limit) => limit !== undefined))
    throw invalidArgument(
      'promptCache',
      'has the limits that it was made with: leave maxKvSize and kvBits out',
    )
}

/**
 * Refuses a scripted answer that no model gives which keeps to the request, and what no answer can
 * keep to.
 */
export function checkAnswerFits(script: Script, request: NativeGenerateRequest): void {
  const { bannedStrings = [], requiredTools, responseFormat } = request
  // What ends an answer early ends it in any case.
  const minTokens = Math.min(request.minTokens ?? 0, request.maxTokens ?? Infinity)
  const { steps } = script
  const isConstrained = responseFormat !== undefined || requiredTools !== undefined
  if (bannedStrings.length > 0 && isConstrained)
    throw invalidArgument('bannedStrings', 'do not go together with a format or a required tool')
  if (steps.some(({ error }) => error !== undefined)) return
  const text = steps.map(textIn).join('')
  const raw = steps.map(({ raw }) => raw).join('')
  const banned = bannedStrings.find((it) => raw.includes(it))
  if (banned !== undefined) throw unfit(`has ${JSON.stringify(banned)}, which bannedStrings names`)
  const tokens = count(steps)
  if (tokens < minTokens) throw unfit(`has ${tokens} tokens, and minTokens asks for ${minTokens}`)
  // What breaks off need not fit.
  if (script.finishReason === 'length') return
  const called = steps.flatMap(({ piece }) =>
    piece?.type === 'tool-call-start' ? [piece.text] : [],
  )
  if (requiredTools !== undefined) {
    const isAllowed = called.length > 0 && called.every((name) => requiredTools.includes(name))
    if (!isAllowed)
      throw unfit(`does not call ${requiredTools.join(' or ')}, as toolChoice requires`)
    return
  }
  if (responseFormat === undefined || called.length > 0) return
  const whole = openAnswer(request.prompt) + text
  if (!fits(whole, responseFormat))
    throw unfit(`${JSON.stringify(whole)} is not what responseFormat asks for`)
}

/** Whether a text is of a format, as far as that can be told without a grammar. */
function fits(text: string, { schemaJson, pattern, options }: NativeResponseFormat): boolean {
  if (options !== undefined) return options.includes(text)
  if (pattern !== undefined) return patternWith('^', pattern, '$').test(text)
  if (schemaJson === undefined) return true
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function unfit(reason: string): Error {
  return new Error(`the fake model's answer ${reason}`)
}

/** The steps of an answer as the request wants calls and reasoning to be read. */
export function readAs(steps: readonly Step[], request: NativeGenerateRequest): Step[] {
  const { parseToolCalls = true, parallelToolCalls = true, reasoningFormat } = request
  const calls = parseToolCalls ? [] : ['tool-call-']
  const texts = reasoningFormat === 'none' ? [...calls, 'reasoning'] : calls
  const read = steps.map((step): Step => {
    const type = step.piece?.type
    if (type === undefined || !texts.some((kind) => type.startsWith(kind))) return step
    return { ...step, piece: { type: 'text', text: step.raw, index: 0 } }
  })
  const first = read.findIndex(({ piece }) => piece?.type === 'tool-call-end')
  return parallelToolCalls || first === -1 ? read : read.slice(0, first + 1)
}
