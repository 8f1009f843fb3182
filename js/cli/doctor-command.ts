import type { Arguments } from './arguments.js'
import type { CacheFolder } from './doctor/caches.js'
import type { CudaReport } from './doctor/cuda.js'
import { report, type Report } from './doctor/report.js'
import { surroundings } from './doctor/surroundings.js'
import { EXIT, UsageError } from './errors.js'
import { bytes, counted, deviceFacts, table, type Row } from './format.js'
import { write } from './output.js'
import { styleFor, type Style } from './style.js'

/** `nodemlx doctor`: what is there, what is missing, and what to do. */
export async function doctor({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length > 0) throw new UsageError('takes no names', 'doctor')
  const facts = await report(surroundings())
  await write(
    flags.has('json') ? `${JSON.stringify(facts)}\n` : text(facts, styleFor(process.stdout)),
  )
  return facts.findings.some(({ severity }) => severity === 'error') ? EXIT.failure : EXIT.ok
}

function text(facts: Report, style: Style): string {
  const rows = [
    ...softwareRows(facts),
    ...machineRows(facts),
    ...(facts.cuda === undefined ? [] : cudaRows(facts.cuda)),
    ...(facts.kernelCache === undefined
      ? []
      : [['kernel cache', cacheText(facts.kernelCache, 'kernel')] as const]),
    ['model cache', cacheText(facts.hubCache, 'model')] as const,
  ]
  const found = facts.findings.map(({ severity, message, advice }) => {
    const mark = severity === 'error' ? style.red('✗') : style.bold('!')
    return `${mark} ${message}\n  ${advice.replaceAll('\n', '\n  ')}`
  })
  const end = found.length === 0 ? ['Nothing is missing.'] : found
  return `${table(rows, style)}\n${end.join('\n')}\n`
}

function softwareRows({ version, node, platform, addon }: Report): Row[] {
  const rows: Row[] = [
    ['nodemlx', `${version}, Node.js ${node}, ${platform}`],
    ['addon', 'error' in addon ? 'does not load' : `${addon.version}, MLX ${addon.mlx}`],
  ]
  if ('error' in addon) return rows
  rows.push(['', addon.place])
  for (const { kind, name, memoryBytes } of addon.devices) {
    const facts = deviceFacts(name, memoryBytes, kind === addon.defaultDevice)
    rows.push(['device', [kind.toUpperCase(), facts].filter((it) => it !== '').join(', ')])
  }
  return rows
}

function machineRows({ machine }: Report): Row[] {
  const { processor, threads, instructionSets, memoryBytes, availableBytes, limitBytes } = machine
  const limit =
    limitBytes === undefined ? '' : `, of which ${bytes(limitBytes)} are for this process`
  return [
    ['processor', `${processor}, ${counted(threads, 'thread')}`],
    ['instructions', instructionSets.join(', ') || 'unknown'],
    ['memory', `${bytes(memoryBytes)}${limit}; ${bytes(availableBytes)} are free`],
  ]
}

function cudaRows({ driver, cards, package: folder, libraries, headers }: CudaReport): Row[] {
  if (driver === undefined && folder === undefined) return [['CUDA', 'no NVIDIA driver']]
  const rows: Row[] = [['NVIDIA driver', driver ?? 'none']]
  for (const { name, memoryBytes, computeCapability } of cards)
    rows.push(['card', `${name}, ${bytes(memoryBytes)}, compute capability ${computeCapability}`])
  rows.push(['CUDA package', folder ?? 'not installed'])
  for (const { name, version, path } of libraries)
    rows.push([name, path === undefined ? 'missing' : [version, path].filter(Boolean).join(', ')])
  const lacking = headers.missing.length === 0 ? '' : `, without ${headers.missing.join(', ')}`
  rows.push(['CUDA headers', headers.folder === undefined ? 'none' : `${headers.folder}${lacking}`])
  return rows
}

function cacheText({ folder, entries, bytes: size, freeBytes }: CacheFolder, what: string): string {
  const room = freeBytes === undefined ? '' : `, ${bytes(freeBytes)} are free`
  return `${folder}: ${counted(entries, what)}, ${bytes(size)}${room}`
}
