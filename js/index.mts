// The package is built once, as CommonJS, and this is its entry for `import`: with two builds a
// program that uses both would have two `NodeMlxError` classes. The names are listed because
// `export *` would add the marker `__esModule`.
export {
  convertModel,
  downloadModel,
  estimateModel,
  generate,
  getVersion,
  isPlatformSupported,
  isSupported,
  listModels,
  loadModel,
  NodeMlxError,
  RECOMMENDED_MODELS,
  removeModel,
  tool,
  VERSION,
} from './index.js'
export type * from './index.js'
