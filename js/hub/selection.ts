/** The file that says which files hold which tensors. */
export const INDEX = 'model.safetensors.index.json'
export const CONFIG = 'config.json'

/** What stands beside weights: configuration, tokenizer, chat templates, modules of embedders. */
const TEXT_FILES = [
  /^(?:config|generation_config|hf_quant_config|quantize_config|quant_config|[a-z_]*processor_config)\.json$/,
  /^(?:tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json$/,
  /^(?:tokenizer\.model|tekken\.json|vocab\.txt|merges\.txt|[^/]*\.tiktoken)$/,
  /^(?:modules|sentence_[a-z-]+_config|config_sentence_transformers)\.json$/,
  /^\d+_\w+\/(?:config\.json|model\.safetensors)$/,
  /^(?:chat_template\.json|[^/]*\.jinja|additional_chat_templates\/[^/]*\.jinja)$/,
]

/** Files of which one is enough for text. */
const TOKENIZERS = ['tokenizer.json', 'tokenizer.model', 'tekken.json', 'vocab.json', 'vocab.txt']

/** Whether a model needs this file of its repository, apart from the weights. */
export function isTextFile(name: string): boolean {
  return TEXT_FILES.some((pattern) => pattern.test(name))
}

export function isTokenizer(name: string): boolean {
  return TOKENIZERS.includes(name) || name.endsWith('.tiktoken')
}

/** The weights of a repository without an index. */
export function isWeightFile(name: string): boolean {
  return /^model[^/]*\.safetensors$/.test(name)
}

/** The files that an index names; `undefined` where it is none. */
export function indexedFiles(text: string): string[] | undefined {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown }
    if (typeof map !== 'object' || map === null) return undefined
    const files: unknown[] = [...new Set<unknown>(Object.values(map))]
    return files.every((file) => typeof file === 'string') ? files : undefined
  } catch {
    return undefined
  }
}

/**
 * The shards of a numbered set (`model-00002-of-00003.safetensors`) that are not among the names.
 */
export function missingShards(names: readonly string[]): string[] {
  const missing = new Set<string>()
  for (const name of names) {
    const [, stem, count] = /^(.*-)\d{5}-of-(\d{5})\.safetensors$/.exec(name) ?? []
    if (stem === undefined || count === undefined) continue
    for (let number = 1; number <= Math.min(Number(count), 10_000); number++) {
      const shard = `${stem}${String(number).padStart(5, '0')}-of-${count}.safetensors`
      if (!names.includes(shard)) missing.add(shard)
    }
  }
  return [...missing]
}

/**
 * A test for names by patterns as huggingface_hub has them: `*` also goes through folders, and a
 * folder stands for all in it.
 */
export function matcher(patterns: readonly string[]): (name: string) => boolean {
  const expressions = patterns.map((pattern) => {
    const whole = pattern.endsWith('/') ? `${pattern}*` : pattern
    const source = whole.replaceAll(/\[!?[^\]]+\]|[\s\S]/g, (part) => {
      if (part === '*') return '.*'
      if (part === '?') return '.'
      if (part.length > 1) return part.replace(/^\[!/, '[^').replaceAll('\\', '\\\\')
      return part.replaceAll(/[\\^$.|+()[\]{}/]/g, String.raw`\$&`)
    })
    return new RegExp(`^${source}$`, 's')
  })
  return (name) => expressions.some((expression) => expression.test(name))
}
