import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { filled } from '../../hub/environment.js'
import { textOf, type Surroundings } from './surroundings.js'

/** A card, by its driver. */
export interface Card {
  name: string
  memoryBytes: number
  /** Its compute capability, such as `9.0`. */
  computeCapability: string
}

/** A library that MLX needs for CUDA. */
export interface CudaLibrary {
  name: string
  /** The wheel of NVIDIA's that brings it. */
  requirement: string
  path?: string
  version?: string
}

export interface CudaReport {
  driver?: string
  cards: Card[]
  /** The folder of the package with CUDA. */
  package?: string
  libraries: CudaLibrary[]
  headers: { folder?: string; missing: string[] }
}

interface Wanted {
  name: string
  /** The file's name, as the linker looks for it. */
  file: string
  requirement: string
}

/** The libraries that MLX is linked with, and the wheels that bring them. */
const LIBRARIES: readonly Wanted[] = [
  { name: 'cuBLAS', file: 'libcublasLt.so.13', requirement: 'nvidia-cublas==13.*' },
  { name: 'cuFFT', file: 'libcufft.so.12', requirement: 'nvidia-cufft==12.*' },
  { name: 'NVRTC', file: 'libnvrtc.so.13', requirement: 'nvidia-cuda-nvrtc==13.*' },
  { name: 'cuDNN', file: 'libcudnn.so.9', requirement: 'nvidia-cudnn-cu13==9.*' },
  { name: 'NCCL', file: 'libnccl.so.2', requirement: 'nvidia-nccl-cu13' },
]

/** The wheels that bring headers, which MLX compiles kernels with. */
const HEADERS: readonly { file: string; requirement: string }[] = [
  { file: 'cuda_fp16.h', requirement: 'nvidia-cuda-runtime==13.*' },
  { file: 'cuda_bf16.h', requirement: 'nvidia-cuda-runtime==13.*' },
  { file: 'crt/mma.h', requirement: 'nvidia-cuda-crt==13.*' },
]

/** All wheels of NVIDIA's that the package needs. */
export const CUDA_WHEELS: readonly string[] = [
  ...new Set([...LIBRARIES, ...HEADERS].map(({ requirement }) => requirement)),
]

/** Where MLX's library looks in its package, as its wheel has it. */
const LIBRARY_FOLDERS = [
  'nvidia/cu13/lib',
  'nvidia/cublas/lib',
  'nvidia/cuda_nvrtc/lib',
  'nvidia/cudnn/lib',
  'nvidia/cufft/lib',
  'nvidia/nccl/lib',
]

/** What there is for CUDA. */
export function cuda(around: Surroundings): CudaReport {
  const { cudaPackage } = around
  const driver = driverVersion(around)
  return {
    ...(driver !== undefined && { driver }),
    cards: cards(around),
    ...(cudaPackage !== undefined && { package: cudaPackage }),
    libraries: libraries(around),
    headers: headers(around),
  }
}

function driverVersion({ root, run }: Surroundings): string | undefined {
  const text = textOf(join(root, 'proc/driver/nvidia/version')) ?? ''
  const [, version] = /\s(\d+\.\d+(?:\.\d+)?)\s/.exec(text) ?? []
  return version ?? run('nvidia-smi', query('driver_version'))?.split('\n')[0]?.trim()
}

function query(fields: string): string[] {
  return [`--query-gpu=${fields}`, '--format=csv,noheader,nounits']
}

function cards({ run }: Surroundings): Card[] {
  const text = run('nvidia-smi', query('name,memory.total,compute_cap')) ?? ''
  return text
    .split('\n')
    .map((line) => line.split(',').map((field) => field.trim()))
    .flatMap(([name, mebibytes, computeCapability]) =>
      name && computeCapability
        ? [{ name, memoryBytes: Number(mebibytes) * (1 << 20), computeCapability }]
        : [],
    )
}

/** The libraries, looked for in the order in which the linker does. */
export function libraries(around: Surroundings): CudaLibrary[] {
  const { root, environment, run, cudaPackage } = around
  const listed = run('ldconfig', ['-p']) ?? run('/sbin/ldconfig', ['-p']) ?? ''
  const own =
    cudaPackage === undefined ? [] : LIBRARY_FOLDERS.map((name) => join(cudaPackage, name))
  const named = (filled(environment, 'LD_LIBRARY_PATH') ?? '').split(':').filter(Boolean)
  const folders = [...own, ...named.map((folder) => join(root, folder))]
  return LIBRARIES.map(({ name, file, requirement }) => {
    const path =
      folders.map((folder) => join(folder, file)).find((candidate) => existsSync(candidate)) ??
      inLinkerCache(listed, file)
    const version = path === undefined ? undefined : versionOf(path, requirement, cudaPackage)
    return {
      name,
      requirement,
      ...(path !== undefined && { path }),
      ...(version !== undefined && { version }),
    }
  })
}

/** The path behind `libx.so.1 (libc6,x86-64) => /usr/lib/libx.so.1`. */
function inLinkerCache(listed: string, file: string): string | undefined {
  const line = listed.split('\n').find((entry) => entry.trim().startsWith(`${file} `))
  return line?.split('=>')[1]?.trim()
}

/** A library's version: by the file that it links to, or by the wheel that brought it. */
function versionOf(
  path: string,
  requirement: string,
  cudaPackage: string | undefined,
): string | undefined {
  const [, full] = /\.so\.(\d+\.[\d.]+)$/.exec(basename(realPath(path))) ?? []
  if (full !== undefined) return full
  if (cudaPackage === undefined || !path.startsWith(cudaPackage)) return undefined
  const [name = ''] = requirement.split('==')
  const prefix = `${name.replaceAll('-', '_')}-`
  const installed = entries(cudaPackage).find(
    (entry) => entry.startsWith(prefix) && entry.endsWith('.dist-info'),
  )
  return installed?.slice(prefix.length, -'.dist-info'.length)
}

/**
 * The first folder that MLX looks into for headers and that is there; what it lacks is not looked
 * for anywhere else.
 */
export function headers({ root, environment, cudaPackage }: Surroundings): CudaReport['headers'] {
  const toolkits = [filled(environment, 'CUDA_HOME'), filled(environment, 'CUDA_PATH')]
  const folder = [
    ...(cudaPackage === undefined ? [] : [join(cudaPackage, 'nvidia/cu13/include')]),
    ...[...toolkits, '/usr/local/cuda'].flatMap((toolkit) =>
      toolkit === undefined ? [] : [join(root, toolkit, 'include')],
    ),
  ].find((candidate) => existsSync(candidate))
  const missing = HEADERS.filter(
    ({ file }) => folder === undefined || !existsSync(join(folder, file)),
  )
  return {
    ...(folder !== undefined && { folder }),
    missing: missing.map(({ file }) => file),
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
