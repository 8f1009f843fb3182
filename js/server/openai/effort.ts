import type { GenerateOptions } from '../../types.js'

type Effort = 'none' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh' | 'max'

/** How much a model is to think, in the words that `generate` knows. */
export function effort(effort: Effort | undefined): GenerateOptions['reasoning'] {
  switch (effort) {
    case undefined:
      return undefined
    case 'none':
      return 'off'
    case 'minimal':
      return 'low'
    case 'xhigh':
    case 'max':
      return 'high'
    case 'low':
    case 'medium':
    case 'high':
      return effort
  }
}
