// The addon is what js/native.ts says it is: compiled by types.test.ts, and never run.

import type * as addon from '../../index.js'
import type { Native } from '../../js/native.js'

export function describe(built: typeof addon): Native {
  return built
}
