import type { GenerationResult, ModelInfo } from '../types.js'
import type { Style } from './style.js'

/** A fact and its name. */
export type Row = readonly [string, string]

/** Facts below each other, a line for each. */
export function table(rows: readonly Row[], style: Style): string {
  const left = Math.max(...rows.map(([label]) => label.length))
  return rows.map(([label, value]) => `${style.cyan(label.padEnd(left))}  ${value}\n`).join('')
}

/** What is known of a device, in one line. */
export function deviceFacts(
  name: string | undefined,
  memoryBytes: number | undefined,
  isDefault: boolean,
): string {
  const facts = [
    name,
    memoryBytes === undefined ? undefined : bytes(memoryBytes),
    isDefault ? 'used by default' : undefined,
  ]
  return facts.filter((fact) => fact !== undefined).join(', ')
}

/** `7.4 MB`; decimal units, as disks and downloads have them. */
export function bytes(count: number): string {
  return scaled(count, ['B', 'kB', 'MB', 'GB', 'TB'])
}

/** `8.1 M`, `1.2 B`. */
export function parameters(count: number): string {
  return scaled(count, ['', 'k', 'M', 'B', 'T'])
}

function scaled(count: number, units: readonly string[]): string {
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`.trim()
}

/** `0.12 s`, `85 ms`. */
export function duration(milliseconds: number): string {
  if (milliseconds < 1) return `${milliseconds.toFixed(1)} ms`
  if (milliseconds < 1000) return `${milliseconds.toFixed(0)} ms`
  const seconds = milliseconds / 1000
  return seconds < 60
    ? `${seconds.toFixed(1)} s`
    : `${Math.floor(seconds / 60)} min ${(seconds % 60).toFixed(0)} s`
}

/** `85.3`, `1234`: three or more significant digits. */
export function rate(perSecond: number): string {
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toFixed(1)
}

/** `1 token`, `2 tokens`. */
export function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`
}

/** A model in one line. */
export function modelLine(info: ModelInfo): string {
  return [
    info.architecture,
    `${parameters(info.parameters)} parameters`,
    weights(info),
    `on the ${info.device.toUpperCase()}`,
  ].join(', ')
}

/** How a model's weights are stored. */
export function weights({ quantization, dtype }: ModelInfo): string {
  return quantization === null
    ? dtype
    : `${quantization.bits}-bit${quantization.mixed ? ' (mixed)' : ''}`
}

/** The statistics of an answer in one line. */
export function statistics({
  finishReason,
  usage,
  timings,
  peakMemoryBytes,
}: GenerationResult): string {
  const parts = [
    `${counted(usage.completionTokens, 'token')}${timings.tokensPerSecond > 0 ? ` at ${rate(timings.tokensPerSecond)}/s` : ''}`,
    `prompt ${usage.promptTokens}${timings.promptTokensPerSecond > 0 ? ` at ${rate(timings.promptTokensPerSecond)}/s` : ''}`,
    `first after ${duration(timings.timeToFirstTokenMs)}`,
    `peak ${bytes(peakMemoryBytes)}`,
  ]
  if (finishReason === 'length') parts.push('cut off at the limit')
  if (finishReason === 'abort') parts.push('stopped')
  return parts.join(' · ')
}
