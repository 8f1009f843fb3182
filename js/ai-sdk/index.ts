export { createNodeMlx, type NodeMlxProvider, type NodeMlxProviderOptions } from './provider.js'
export type { NodeMlxLanguageModelOptions } from './call-options.js'
export type { ModelSource } from './pool.js'
