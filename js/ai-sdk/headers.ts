import type { SharedV4Warning } from '@ai-sdk/provider'

/** The headers of a call go nowhere: there is no HTTP. The AI SDK's own say its name alone. */
export function headerWarnings(
  headers: Readonly<Record<string, string | undefined>> | undefined,
): SharedV4Warning[] {
  return Object.entries(headers ?? {})
    .filter(([name, value]) => value !== undefined && name.toLowerCase() !== 'user-agent')
    .map(([name]) => ({
      type: 'unsupported',
      feature: 'headers',
      details: `${name}: there is no HTTP`,
    }))
}
