export { fakeModel, testModel } from './index.js'
export type * from './index.js'
