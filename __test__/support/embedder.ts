import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { noise, safetensors } from './adapters.js'

const DIMS = 32
const HIDDEN = 48
const LAYERS = 2
const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'
const VOCABULARY = [
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  ...Array.from('.,:!?-\'"'),
  ...Array.from(LETTERS),
  ...Array.from(LETTERS, (letter) => `##${letter}`),
]
const POSITIONS = 64

/** A BERT that spells every word, by BERT's own rules. */
function tokenizer(): object {
  const special = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } })
  const sequence = (id: string, type: number) => ({ Sequence: { id, type_id: type } })
  const token = (id: string) => ({ id, ids: [VOCABULARY.indexOf(id)], tokens: [id] })
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: VOCABULARY.slice(0, 4).map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0)],
      pair: [
        special('[CLS]', 0),
        sequence('A', 0),
        special('[SEP]', 0),
        sequence('B', 1),
        special('[SEP]', 1),
      ],
      special_tokens: { '[CLS]': token('[CLS]'), '[SEP]': token('[SEP]') },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(VOCABULARY.map((word, index) => [word, index])),
    },
  }
}

function weights(judges: boolean): Record<string, { shape: number[]; data: Float32Array }> {
  const shapes: Record<string, number[]> = {
    'embeddings.word_embeddings.weight': [VOCABULARY.length, DIMS],
    'embeddings.position_embeddings.weight': [POSITIONS, DIMS],
    'embeddings.token_type_embeddings.weight': [2, DIMS],
    'embeddings.LayerNorm.weight': [DIMS],
    'embeddings.LayerNorm.bias': [DIMS],
  }
  const linear = (name: string, outputs: number, inputs: number): void => {
    shapes[`${name}.weight`] = [outputs, inputs]
    shapes[`${name}.bias`] = [outputs]
  }
  for (let layer = 0; layer < LAYERS; layer++) {
    const path = `encoder.layer.${layer}`
    for (const part of ['query', 'key', 'value'])
      linear(`${path}.attention.self.${part}`, DIMS, DIMS)
    linear(`${path}.attention.output.dense`, DIMS, DIMS)
    linear(`${path}.intermediate.dense`, HIDDEN, DIMS)
    linear(`${path}.output.dense`, DIMS, HIDDEN)
    for (const norm of ['attention.output.LayerNorm', 'output.LayerNorm']) {
      shapes[`${path}.${norm}.weight`] = [DIMS]
      shapes[`${path}.${norm}.bias`] = [DIMS]
    }
  }
  linear('pooler.dense', DIMS, DIMS)
  const prefix = judges ? 'bert.' : ''
  const all = Object.entries(shapes).map(([name, shape]) => [`${prefix}${name}`, shape] as const)
  if (judges) all.push(['classifier.weight', [1, DIMS]], ['classifier.bias', [1]])
  return Object.fromEntries(
    all.map(([name, shape], seed) => {
      const count = shape.reduce((product, size) => product * size, 1)
      const data = noise(count, seed + 1)
      const isNorm = name.endsWith('LayerNorm.weight')
      return [name, { shape, data: isNorm ? data.map((value) => 1 + value / 4) : data }]
    }),
  )
}

/** The folder of a tiny BERT with random weights: one that embeds, or one that judges pairs. */
export function writeBert(folder: string, kind: 'embeds' | 'judges'): string {
  const judges = kind === 'judges'
  const files: Record<string, object> = {
    'config.json': {
      model_type: 'bert',
      architectures: [judges ? 'BertForSequenceClassification' : 'BertModel'],
      vocab_size: VOCABULARY.length,
      hidden_size: DIMS,
      num_hidden_layers: LAYERS,
      num_attention_heads: 4,
      intermediate_size: HIDDEN,
      max_position_embeddings: POSITIONS,
      type_vocab_size: 2,
      layer_norm_eps: 1e-12,
      ...(judges ? { id2label: { 0: 'LABEL_0' }, label2id: { LABEL_0: 0 } } : {}),
    },
    'tokenizer.json': tokenizer(),
  }
  if (!judges) {
    const module = (idx: number, path: string, type: string) => ({
      idx,
      name: String(idx),
      path,
      type: `sentence_transformers.models.${type}`,
    })
    Object.assign(files, {
      'modules.json': [
        module(0, '', 'Transformer'),
        module(1, '1_Pooling', 'Pooling'),
        module(2, '2_Normalize', 'Normalize'),
      ],
      '1_Pooling/config.json': { word_embedding_dimension: DIMS, pooling_mode_mean_tokens: true },
      'config_sentence_transformers.json': {
        prompts: { query: 'find: ', document: '' },
        default_prompt_name: null,
      },
    })
  }
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), JSON.stringify(content))
  }
  writeFileSync(join(folder, 'model.safetensors'), safetensors(weights(judges)))
  return folder
}
