// See js/index.mts.
export { createHandler, nodeListener, serve } from './index.js'
export type * from './index.js'
