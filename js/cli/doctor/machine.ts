import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { textOf, type Surroundings } from './surroundings.js'

/** The processor and the memory. */
export interface Machine {
  processor: string
  /** How many threads may run at once. */
  threads: number
  /** Instruction sets that kernels of models use. */
  instructionSets: string[]
  memoryBytes: number
  /** What programs can still get. */
  availableBytes: number
  /** The most that this process may use, where something limits it (a container). */
  limitBytes?: number
}

/** Names in /proc/cpuinfo, and how they are called elsewhere; in the order of what they bring. */
const SETS: readonly (readonly [string, string])[] = [
  ['avx2', 'AVX2'],
  ['fma', 'FMA'],
  ['f16c', 'F16C'],
  ['avx_vnni', 'AVX-VNNI'],
  ['avx512f', 'AVX-512'],
  ['avx512bw', 'AVX-512 BW'],
  ['avx512_vnni', 'AVX-512 VNNI'],
  ['avx512_bf16', 'AVX-512 BF16'],
  ['amx_int8', 'AMX'],
  ['asimd', 'NEON'],
  ['asimddp', 'dot products'],
  ['i8mm', 'I8MM'],
  ['bf16', 'BF16'],
  ['sve', 'SVE'],
]

/** What there is to compute with on the processor. */
export function machine({ root }: Surroundings): Machine {
  const limit = process.constrainedMemory()
  const [first] = cpus()
  return {
    processor: first?.model.trim() ?? 'unknown',
    threads: availableParallelism(),
    instructionSets: instructionSets(textOf(join(root, 'proc/cpuinfo'))),
    memoryBytes: totalmem(),
    availableBytes: freemem(),
    // A limit that is more than all there is says that there is none.
    ...(limit > 0 && limit < totalmem() && { limitBytes: limit }),
  }
}

/** The instruction sets by /proc/cpuinfo; a Mac has no such file, and one kind of processor. */
export function instructionSets(cpuinfo: string | undefined): string[] {
  if (cpuinfo === undefined) return process.arch === 'arm64' ? ['NEON'] : []
  const [, line = ''] = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo) ?? []
  const flags = new Set(line.trim().split(/\s+/))
  return SETS.filter(([flag]) => flags.has(flag)).map(([, name]) => name)
}
