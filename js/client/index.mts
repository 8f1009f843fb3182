export { connect, serve } from './index.js'
export type * from './index.js'
