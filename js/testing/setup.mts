// The global set-up of vitest, jest and node:test, by the names that they look for.
import { shareModels } from './shared-models.js'

export default shareModels
export { shareModels as globalSetup }
