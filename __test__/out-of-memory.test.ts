// A process whose memory is limited while several generations run: the one that there is no memory
// for fails, and the others write what they write alone. The model is a tiny one whose keys and
// values take 64 KiB per token.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { noise, safetensors } from './support/adapters.js'
import { runModule } from './support/child.js'

const [SIZE, VOCABULARY, HEADS, HEAD_DIM, LAYERS] = [64, 96, 16, 256, 2] as const

const CONFIG = {
  model_type: 'llama',
  hidden_size: SIZE,
  intermediate_size: 48,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  num_key_value_heads: HEADS,
  head_dim: HEAD_DIM,
  vocab_size: VOCABULARY,
  max_position_embeddings: 100_000,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: true,
}

function weights(): Buffer {
  const shapes: Record<string, number[]> = {
    'model.embed_tokens.weight': [VOCABULARY, SIZE],
    'model.norm.weight': [SIZE],
  }
  for (let layer = 0; layer < LAYERS; layer++) {
    const at = `model.layers.${layer}`
    for (const name of ['q', 'k', 'v']) {
      shapes[`${at}.self_attn.${name}_proj.weight`] = [HEADS * HEAD_DIM, SIZE]
    }
    shapes[`${at}.self_attn.o_proj.weight`] = [SIZE, HEADS * HEAD_DIM]
    shapes[`${at}.mlp.gate_proj.weight`] = [48, SIZE]
    shapes[`${at}.mlp.up_proj.weight`] = [48, SIZE]
    shapes[`${at}.mlp.down_proj.weight`] = [SIZE, 48]
    shapes[`${at}.input_layernorm.weight`] = [SIZE]
    shapes[`${at}.post_attention_layernorm.weight`] = [SIZE]
  }
  const tensors = Object.entries(shapes).map(([name, shape], seed) => {
    const count = shape.reduce((product, size) => product * size, 1)
    const data = name.includes('norm') ? new Float32Array(count).fill(1) : noise(count, seed + 1)
    return [name, { shape, data: data.map((value) => 0.3 * value) }] as const
  })
  return safetensors(Object.fromEntries(tensors))
}

/** What all programs begin with; FOLDER is the model's. */
const BEGINNING = `
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { loadModel } from 'nodemlx'

const { clearMemoryCache } = createRequire(import.meta.url)('./dist/native.js').getNative()
const model = await loadModel(FOLDER, { device: 'cpu', precision: 'exact', dtype: 'float32' })
const PROMPTS = [[5, 17, 40, 3, 9], [60], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]
const options = { temperature: 0, maxTokens: 200 }
const alone = []
for (const tokens of PROMPTS) alone.push((await model.generate({ tokens }, options)).tokens)
await model.clearPrefixCache()

/** Lets the process have so many bytes more than it has. */
function limit(bytes) {
  clearMemoryCache()
  const kilobytes = /VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]
  execFileSync('prlimit', ['--pid=' + process.pid, '--as=' + (1024 * kilobytes + bytes)])
}

const long = (length) => ({ tokens: Array.from({ length }, (_, index) => index % 90) })
const start = () => PROMPTS.map((tokens) => model.generate({ tokens }, options))
const failureOf = (generation) => generation.then(() => undefined, (error) => error)

async function report(error, running) {
  const beside = []
  for (const generation of running) beside.push((await generation).tokens)
  const afterwards = (await model.generate({ tokens: PROMPTS[0] }, options)).tokens
  await model.dispose()
  const { code, message } = error ?? {}
  console.log(JSON.stringify({ code, message, alone, beside, afterwards }))
}
`

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-memory-'))
  mkdirSync(join(folder, 'model'))
  writeFileSync(join(folder, 'model', 'config.json'), JSON.stringify(CONFIG))
  writeFileSync(join(folder, 'model', 'model.safetensors'), weights())
})

afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** Only Linux limits the memory of a process that runs. */
describe.runIf(existsSync('/usr/bin/prlimit'))('a generation that there is no memory for', () => {
  it.each([
    [
      'while its prompt is read',
      `
      limit(200e6)
      const running = start()
      const error = await failureOf(model.generate(long(8000), options))
      await report(error, running)
      `,
    ],
    [
      'while it writes',
      `
      const large = model.generate(long(8100), { temperature: 0, maxTokens: 1000 })
      let begin
      const begun = new Promise((resolve) => { begin = resolve })
      const read = async () => {
        for await (const { tokens } of large) if (tokens.length > 0) begin()
      }
      const failed = failureOf(read())
      await begun
      limit(150e6)
      const running = start()
      await report(await failed, running)
      `,
    ],
  ])(
    'fails alone, %s',
    async (_, program) => {
      const source = BEGINNING.replace('FOLDER', JSON.stringify(join(folder, 'model'))) + program
      const { code, signal, stdout, stderr } = await runModule(source, { timeoutMs: 200_000 })
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
      const said = JSON.parse(stdout) as Record<string, unknown>
      expect(said['message']).toMatch(/out of memory/)
      expect(said['code']).toBe('MLX_ERROR')
      expect(said['beside']).toEqual(said['alone'])
      expect(said['afterwards']).toEqual((said['alone'] as unknown[])[0])
    },
    240_000,
  )
})
