import type { GenerationChunk } from '../../js/types.js'

/** The text of a piece that is text. */
export function textOf(chunk: GenerationChunk | undefined): string | undefined {
  return chunk?.type === 'text' ? chunk.text : undefined
}
