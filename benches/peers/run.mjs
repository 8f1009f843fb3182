#!/usr/bin/env node
// npm run bench:peers [-- --rounds 3 --prompts 256,1024 --streams 4,8 --tokens 32 --nice -5
// --threads 1,2 --instructions avx2 --print]: nodemlx on the CPU beside node-llama-cpp and
// ik_llama.cpp (the best of these numbers of threads) and mlx-lm, in turns, with models of one shape
// and as many bits per weight. Prints a table of medians and, unless it is only to be printed, writes
// it to docs/benchmarks.md.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import * as os from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { buildAddon, currentAddon } from '../../scripts/lib/addon.mjs'
import { ensureDist } from '../../scripts/lib/dist.mjs'
import { buildDir, mlxVersion, root } from '../../scripts/lib/project.mjs'
import { fail, foreground, Problem, run } from '../../scripts/lib/run.mjs'
import { ensureSetUp } from '../../scripts/setup.mjs'
import { writeGguf } from './gguf.mjs'

const LLAMA = '3.22.1'
const MLX_LM = '0.32.2'
/** Python's bindings, whose builds have AVX2 and no AVX-512. */
const IK_LLAMA = '0.1.5'
/** Outside of what git knows; nothing of it is a dependency of the project. */
const folder = join(buildDir, 'peers')
const python = join(folder, 'venv', 'bin', 'python')
const checkpoint = join(folder, 'llama-4bit')
const gguf = join(folder, 'llama-q4_0.gguf')
const document = join(root, 'docs', 'benchmarks.md')
const MARKS = ['<!-- bench:peers -->', '<!-- /bench:peers -->']

/** mlx-lm is so slow that it gets this short a turn. */
const [SHORT_PROMPT, SHORT_ANSWER] = [8, 2]
/** Tokens of each of several streams. */
const [STREAM_PROMPT, STREAM_ANSWER] = [32, 64]

async function installPeers() {
  fs.mkdirSync(folder, { recursive: true })
  if (!fs.existsSync(join(folder, 'node_modules', 'node-llama-cpp'))) {
    fs.writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const flags = ['--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts']
    await run('npm', ['install', ...flags, `node-llama-cpp@${LLAMA}`], { cwd: folder })
  }
  if (!fs.existsSync(python)) await run('python3', ['-m', 'venv', join(folder, 'venv')])
  const packages = [
    `mlx-lm==${MLX_LM}`,
    `mlx[cpu]==${mlxVersion}`,
    `ik-llama-cpp-python==${IK_LLAMA}`,
  ]
  await run(python, ['-m', 'pip', 'install', '--quiet', ...packages])
}

/** What node-llama-cpp calls its library for an instruction set. */
const LIBRARIES = { avx2: 'haswell' }

/**
 * A folder with node-llama-cpp installed, which by itself takes the best of its libraries for this
 * processor: one that has no other than that for the `instructions`, if any are named.
 */
function peerWith(instructions) {
  if (instructions === undefined) return folder
  const library = LIBRARIES[instructions]
  if (library === undefined) {
    throw new Problem(`--instructions is one of ${Object.keys(LIBRARIES).join(', ')}.`)
  }
  const own = join(folder, instructions)
  const isOfOthers = (path) => {
    const [, platform] = /@node-llama-cpp[/\\]([^/\\]+)/.exec(path) ?? []
    const [, variant] = /libggml-cpu-(\w+)\./.exec(path) ?? []
    return (platform ?? 'linux-x64') !== 'linux-x64' || (variant ?? library) !== library
  }
  if (!fs.existsSync(own)) {
    const partial = `${own}.partial`
    fs.rmSync(partial, { recursive: true, force: true })
    for (const entry of ['package.json', 'node_modules']) {
      const filter = (path) => !isOfOthers(path)
      fs.cpSync(join(folder, entry), join(partial, entry), { recursive: true, filter })
    }
    fs.renameSync(partial, own)
  }
  return own
}

/** The program of benches/throughput.rs, which writes our checkpoint and measures the memory. */
function throughput() {
  const args = ['bench', '--bench', 'throughput', '--no-run', '--message-format', 'json']
  const { status, stdout } = spawnSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
  })
  if (status !== 0) throw new Problem('cargo could not build the benchmark "throughput".')
  const artifacts = stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  return artifacts.find(({ target, executable }) => target?.name === 'throughput' && executable)
    .executable
}

/** What a program prints last, as JSON; undefined where it takes longer than the limit. */
function measured({ nice, limit }, command, ...args) {
  const { status, error, stdout, stderr } = spawnSync(
    'nice',
    ['-n', nice, command, ...args.map(String)],
    { encoding: 'utf8', timeout: 1000 * Number(limit), killSignal: 'SIGKILL' },
  )
  if (error?.code === 'ETIMEDOUT') return undefined
  if (status !== 0) throw new Problem(`${command} failed:\n${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

function median(values) {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b)
  const half = sorted.length / 2
  return sorted.length === 0
    ? undefined
    : (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2
}

/** The greatest of the figures that there are. */
function best(turns, field) {
  const figures = turns.filter(Boolean).map((turn) => turn[field])
  return figures.length === 0 ? undefined : Math.max(...figures)
}

/**
 * The best figures of node-llama-cpp and of ik_llama.cpp: by themselves they may take more threads
 * than there are cores, so each gets the number that suits it best.
 */
function peers(settings, prompt, tokens, streams = []) {
  const scripts = ['node-llama-cpp.mjs', 'ik-llama.py'].map((name) =>
    join(root, 'benches', 'peers', name),
  )
  const commands = {
    llama: [process.execPath, scripts[0], settings.peer],
    ik: [python, scripts[1]],
  }
  return Object.fromEntries(
    Object.entries(commands).map(([who, command]) => {
      const turns = settings.threads.map((threads) =>
        measured(settings, ...command, gguf, prompt, tokens, threads, ...streams),
      )
      return [who, { prefill: best(turns, 'prefill'), decode: best(turns, 'decode') }]
    }),
  )
}

/** The rounds of one length of prompt. */
function compare(settings, bench, prompt) {
  const { rounds, tokens } = settings
  const cli = join(root, 'dist', 'cli', 'main.js')
  const samples = []
  for (let round = 0; round < Number(rounds); round++) {
    const load = os.loadavg()[0]
    const bandwidth = measured(settings, bench, '--bandwidth', 5)
    const others = peers(settings, prompt, tokens)
    const flags = ['--json', '--device', 'cpu', '--rounds', 1]
    const lengths = ['--prompt-tokens', prompt, '--max-tokens', tokens]
    const [fast, fastest] = ['fast', 'fastest'].map((precision) => {
      const args = ['bench', checkpoint, '--precision', precision, ...flags, ...lengths]
      return measured(settings, process.execPath, cli, ...args)?.median ?? {}
    })
    samples.push({
      load,
      bandwidth,
      ours: {
        prefill: fast.promptTokensPerSecond,
        fastest: fastest.promptTokensPerSecond,
        decode: fast.tokensPerSecond,
      },
      ...others,
    })
    process.stderr.write(`${JSON.stringify({ prompt, ...samples.at(-1) })}\n`)
  }
  return samples
}

/** The rounds of so many streams at once, with short prompts. */
function compareStreams(settings, streams) {
  const serve = join(root, 'benches', 'serve.mjs')
  const samples = []
  for (let round = 0; round < Number(settings.rounds); round++) {
    const others = peers(settings, STREAM_PROMPT, STREAM_ANSWER, [streams])
    const lengths = ['--prompt', STREAM_PROMPT, '--tokens', STREAM_ANSWER]
    const flags = ['--model', checkpoint, '--rounds', 1, '--json']
    const args = [serve, '--streams', streams, ...lengths, ...flags]
    const ours = measured(settings, process.execPath, ...args)?.[0].writing.rate
    samples.push({ ours: { decode: ours }, ...others })
    process.stderr.write(`${JSON.stringify({ streams, ...samples.at(-1) })}\n`)
  }
  return samples
}

const figure = (value) => (value === undefined ? '–' : value.toFixed(value < 10 ? 2 : 1))

/** A median, with the rounds that it rests on where some were cut off. */
function middle(values) {
  const finished = values.filter((value) => value !== undefined).length
  const rounds = finished < values.length ? ` (${finished} of ${values.length} rounds)` : ''
  return `${figure(median(values))}${rounds}`
}

function row(what, samples, field, theirField = field) {
  // Each round has its own ratio: what disturbs a round disturbs all.
  const of = (who) => [
    samples.map((sample) => sample[who][theirField]),
    samples.map(({ ours, [who]: theirs }) =>
      ours[field] !== undefined && theirs[theirField] !== undefined
        ? ours[field] / theirs[theirField]
        : undefined,
    ),
  ]
  const columns = [samples.map(({ ours }) => ours[field]), ...of('llama'), ...of('ik')]
  return `| ${what} | ${columns.map(middle).join(' | ')} |`
}

/** Decoded weights per second as a part of what a plain read reaches. */
function share(samples, bytes) {
  return median(
    samples.map(({ ours, bandwidth }) =>
      ours.decode === undefined ? undefined : (ours.decode * bytes) / 1e9 / bandwidth,
    ),
  )
}

function report(settings, results, streams, slow) {
  const bytes = fs.statSync(join(checkpoint, 'model.safetensors')).size
  const all = results.flatMap(({ samples }) => samples)
  const before = all[0].load
  const cores = os.cpus()
  const length = `${SHORT_PROMPT} tokens of prompt and ${SHORT_ANSWER} of answer`
  return [
    `On ${cores.length} × ${cores[0].model}${instructions(settings)}, ${settings.rounds} rounds in turns, ${settings.tokens} tokens generated, at most ${settings.limit} s for a program's turn; of the peers the better figure of ${settings.threads.join(' and ')} threads. ` +
      `The shape is that of Llama 3.2 1B with a vocabulary of 32000, random weights of 4.5 bits. Tokens per second, medians:`,
    '',
    `| | nodemlx | node-llama-cpp ${LLAMA} (Q4_0) | ratio | ik_llama.cpp (Q4_0, AVX2, of ik-llama-cpp-python ${IK_LLAMA}) | ratio |`,
    '|---|---|---|---|---|---|',
    ...results.flatMap(({ prompt, samples }) => [
      row(`prefill, ${prompt} tokens`, samples, 'prefill'),
      row(`the same with precision 'fastest'`, samples, 'fastest', 'prefill'),
      row(`decode after ${prompt} tokens`, samples, 'decode'),
    ]),
    ...streams.map(({ count, samples }) => row(`decode of ${count} streams`, samples, 'decode')),
    '',
    `A plain read reached ${figure(median(all.map(({ bandwidth }) => bandwidth)))} GB/s between the rounds; decoding after ${results[0].prompt} tokens read weights at ${figure(share(results[0].samples, bytes) * 100)} % of that. ` +
      (slow === undefined
        ? `mlx-lm ${MLX_LM} did not finish ${length} in ${settings.limit} s.`
        : `mlx-lm ${MLX_LM} on the same CPU, with ${length}: prefill ${figure(slow.prefill)}, decode ${slow.decode.toFixed(3)}.`),
    ...(before > cores.length / 4
      ? [
          '',
          `**The machine was not idle** (load ${figure(before)} when it began): this says how the programs do beside other work, not how fast they are alone.`,
        ]
      : []),
  ].join('\n')
}

/** The instruction set that is asked for, or the best one that there is. */
function instructions(settings) {
  if (settings.instructions) return `, all with ${settings.instructions}`
  const flags = fs.existsSync('/proc/cpuinfo') ? fs.readFileSync('/proc/cpuinfo', 'utf8') : ''
  const set = ['avx512_vnni', 'avx2'].find((flag) => flags.includes(flag))
  return set === undefined ? '' : ` with ${set}`
}

function publish(text) {
  const before = fs.readFileSync(document, 'utf8')
  const [start, end] = MARKS.map((mark) => before.indexOf(mark))
  if (start < 0 || end < start) throw new Problem(`${document} lacks ${MARKS.join(' and ')}.`)
  const head = before.slice(0, start + MARKS[0].length)
  fs.writeFileSync(document, `${head}\n\n${text}\n\n${before.slice(end)}`)
}

async function main(args) {
  const text = (value) => ({ type: 'string', default: value })
  const { values: settings } = parseArgs({
    args,
    options: {
      rounds: text('3'),
      prompts: text('256,1024'),
      streams: text('4,8'),
      tokens: text('32'),
      nice: text('0'),
      limit: text('600'),
      threads: text(`1,${os.cpus().length}`),
      instructions: { type: 'string' },
      print: { type: 'boolean', default: false },
    },
  })
  settings.threads = settings.threads.split(',').map(Number)
  await ensureSetUp()
  if (currentAddon() !== 'release') buildAddon('release')
  await ensureDist()
  await installPeers()
  settings.peer = peerWith(settings.instructions)
  if (settings.instructions !== undefined) process.env.NODEMLX_SIMD = settings.instructions
  const bench = throughput()
  if (!fs.existsSync(join(checkpoint, 'config.json')))
    foreground(bench, ['--write', checkpoint], { what: 'Writing the checkpoint' })
  const config = JSON.parse(fs.readFileSync(join(checkpoint, 'config.json'), 'utf8'))
  if (!fs.existsSync(gguf)) writeGguf(gguf, config)
  const results = settings.prompts.split(',').map((prompt) => ({
    prompt,
    samples: compare(settings, bench, prompt),
  }))
  const streams = settings.streams
    .split(',')
    .filter(Boolean)
    .map((count) => ({ count, samples: compareStreams(settings, count) }))
  const script = join(root, 'benches', 'peers', 'mlx-lm.py')
  const slow = measured(settings, python, script, checkpoint, SHORT_PROMPT, SHORT_ANSWER)
  const table = report(settings, results, streams, slow)
  if (!settings.print) publish(table)
  process.stdout.write(`${table}\n`)
}

main(process.argv.slice(2)).catch(fail)
