export { createNodeMlx, type NodeMlxProvider, type NodeMlxProviderOptions } from './provider.js'
export type { NodeMlxLanguageModelOptions } from './call-options.js'
export type { LoadedModelOptions, NamedModel } from '../model-sources.js'
