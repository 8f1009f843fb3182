// `nodemlx doctor` and `nodemlx setup cuda`, on machines that folders and small programs stand for.

import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cuda, CUDA_WHEELS } from '../js/cli/doctor/cuda.js'
import { instructionSets } from '../js/cli/doctor/machine.js'
import { findPip, howToGetPip, shellLine } from '../js/cli/doctor/pip.js'
import { findings, report, type Report } from '../js/cli/doctor/report.js'
import type { Surroundings } from '../js/cli/doctor/surroundings.js'
import { ROOT, runCli, runProgram, type Outcome } from './support/child.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-doctor-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

function file(path: string, content = ''): void {
  const whole = join(folder, path)
  mkdirSync(dirname(whole), { recursive: true })
  writeFileSync(whole, content)
}

const LIBRARIES = {
  'nvidia/cu13/lib/libcublasLt.so.13': 'nvidia_cublas-13.1.0.3',
  'nvidia/cu13/lib/libcufft.so.12': 'nvidia_cufft-12.0.0.61',
  'nvidia/cu13/lib/libnvrtc.so.13': 'nvidia_cuda_nvrtc-13.0.88',
  'nvidia/cudnn/lib/libcudnn.so.9': 'nvidia_cudnn_cu13-9.13.0.50',
  'nvidia/nccl/lib/libnccl.so.2': 'nvidia_nccl_cu13-2.28.3',
}
const HEADERS = ['cuda_fp16.h', 'cuda_bf16.h', 'crt/mma.h']

/** Fills the package for CUDA as pip does. */
function filled(base: string): void {
  for (const [path, wheel] of Object.entries(LIBRARIES)) {
    file(join(base, path))
    file(join(base, `${wheel}.dist-info`, 'METADATA'))
  }
  for (const name of HEADERS) file(join(base, 'nvidia/cu13/include', name))
}

/** A machine whose programs print what is given here by their command lines. */
function around(prints: Record<string, string>, more: Partial<Surroundings> = {}): Surroundings {
  return {
    platform: 'linux-x64',
    root: folder,
    environment: { HOME: join(folder, 'home') },
    run: (command, args) => prints[[command, ...args].join(' ')],
    cudaPackage: join(folder, 'package'),
    ...more,
  }
}

const H100 = {
  'nvidia-smi --query-gpu=name,memory.total,compute_cap --format=csv,noheader,nounits':
    'NVIDIA H100 80GB HBM3, 81559, 9.0\n',
}
const DRIVER = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n'

describe('the report', () => {
  it('names the driver, the cards, and the libraries with their versions', () => {
    file('proc/driver/nvidia/version', DRIVER)
    filled('package')
    const found = cuda(around(H100))
    expect(found).toMatchObject({
      driver: '580.95.05',
      cards: [
        { name: 'NVIDIA H100 80GB HBM3', memoryBytes: 81559 * 2 ** 20, computeCapability: '9.0' },
      ],
      headers: { folder: join(folder, 'package/nvidia/cu13/include'), missing: [] },
    })
    expect(found.libraries.map(({ name, version }) => [name, version])).toEqual([
      ['cuBLAS', '13.1.0.3'],
      ['cuFFT', '12.0.0.61'],
      ['NVRTC', '13.0.88'],
      ['cuDNN', '9.13.0.50'],
      ['NCCL', '2.28.3'],
    ])
  })

  it("finds libraries where the system's linker looks, and a toolkit's headers", () => {
    file('usr/local/cuda/include/cuda_fp16.h')
    file('lib/libnvrtc.so.13')
    const listed = '\tlibcudnn.so.9 (libc6,x86-64) => /usr/lib/libcudnn.so.9\n'
    const found = cuda(
      around(
        { '/sbin/ldconfig -p': listed },
        { environment: { LD_LIBRARY_PATH: '/nowhere:/lib' }, cudaPackage: undefined },
      ),
    )
    const paths = Object.fromEntries(found.libraries.map(({ name, path }) => [name, path]))
    expect(paths).toMatchObject({
      cuDNN: '/usr/lib/libcudnn.so.9',
      NVRTC: join(folder, 'lib/libnvrtc.so.13'),
      NCCL: undefined,
    })
    expect(found.headers).toEqual({
      folder: join(folder, 'usr/local/cuda/include'),
      missing: ['cuda_bf16.h', 'crt/mma.h'],
    })
  })

  it('names the instruction sets of a processor', () => {
    expect(instructionSets('flags\t\t: fpu avx2 fma f16c avx512f avx512_vnni\n')).toEqual([
      'AVX2',
      'FMA',
      'F16C',
      'AVX-512',
      'AVX-512 VNNI',
    ])
    expect(instructionSets('Features\t: fp asimd asimddp i8mm\n')).toEqual([
      'NEON',
      'dot products',
      'I8MM',
    ])
  })

  it('says what is missing and what to do', async () => {
    file('proc/driver/nvidia/version', DRIVER.replace('580', '550'))
    file('package/nvidia/cu13/include/cuda_fp16.h')
    const facts = await report(around({ ...H100 }))
    expect(facts.findings.map(({ message }) => message)).toEqual(
      expect.arrayContaining([
        'The NVIDIA driver 550.95.05 is too old for CUDA 13.',
        'CUDA lacks cuBLAS, cuFFT, NVRTC, cuDNN, NCCL.',
        expect.stringMatching(/^Kernels .* lack cuda_bf16\.h, crt\/mma\.h in /) as string,
      ]),
    )
    const advice = facts.findings.map((finding) => finding.advice)
    expect(advice).toContain('nodemlx setup cuda')
    file('package/package.json')
    filled('package')
    file('proc/driver/nvidia/version', DRIVER)
    expect(ofCuda(await report(around(H100)))).toEqual([])
    const old = { ...H100 }
    for (const key of Object.keys(old) as (keyof typeof old)[]) old[key] = 'Tesla T4, 15360, 7.5'
    expect(ofCuda(await report(around(old)))).toEqual([expect.stringContaining('Tesla T4')])
    expect(ofCuda(await report(around({})))).toEqual(['The NVIDIA driver lists no card.'])
    expect(ofCuda(await report(around(H100, { cudaPackage: undefined })))).toEqual([
      expect.stringContaining('is not installed'),
    ])
  })

  it('says why kernels do not run on a card', async () => {
    const facts = await report(around(H100))
    const addon = { ...facts.addon, kernelProblem: 'a CUDA kernel does not compile: no' }
    const told = (more: object) => findings({ ...facts, addon, ...more })
    expect(told({})).toContainEqual({
      severity: 'warning',
      message: 'The kernels of nodemlx do not run on this card: a CUDA kernel does not compile: no',
      advice: expect.stringContaining('nodemlx setup cuda') as string,
    })
    const card = { name: 'Tesla T4', memoryBytes: 16e9, computeCapability: '7.5' }
    const old = told({ cuda: { ...facts.cuda, cards: [card] } })
    expect(old.filter(({ message }) => message.includes('do not run'))).toEqual([])
  })

  it('counts kernels and models, and says where there is little room', async () => {
    file('proc/driver/nvidia/version', DRIVER)
    file('kernels/few_rows_1_2.ptx', 'x'.repeat(100))
    file('kernels/few_rows_1_2.txt', 'y')
    const facts = await report(
      around(H100, { environment: { MLX_PTX_CACHE_DIR: join(folder, 'kernels') } }),
    )
    expect(facts.kernelCache).toMatchObject({ entries: 1, bytes: 101 })
    expect(facts.hubCache.freeBytes).toBeGreaterThan(0)
    const full = { ...facts, hubCache: { ...facts.hubCache, freeBytes: 1e9 } }
    expect(findings(full).map(({ message }) => message)).toContain(
      `There is little room for models in ${facts.hubCache.folder}.`,
    )
  })
})

/** The messages about CUDA. */
function ofCuda({ findings: found }: Report): string[] {
  return found
    .map(({ message }) => message)
    .filter((message) => /NVIDIA|CUDA|Kernels|capability/.test(message))
}

describe('nodemlx doctor', () => {
  it('shows what there is, in lines and as JSON', async () => {
    const environment = { HF_HUB_CACHE: join(folder, 'hub') }
    const shown = await runCli(['doctor'], { environment })
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    for (const word of ['nodemlx', 'addon', 'processor', 'memory', 'model cache'])
      expect(shown.stdout).toMatch(new RegExp(`^${word} +\\S`, 'm'))
    const { stdout, code } = await runCli(['doctor', '--json'], { environment })
    const facts = JSON.parse(stdout) as Report
    expect(code).toBe(0)
    expect(facts).toMatchObject({
      platform: `${process.platform}-${process.arch}`,
      hubCache: { folder: join(folder, 'hub'), entries: 0, bytes: 0 },
    })
    expect(facts.addon).toHaveProperty('mlx')
    expect((await runCli(['doctor', 'me'])).code).toBe(2)
  })

  it('says why nothing runs where the addon is not there', async () => {
    const program = installation()
    const { code, stdout } = await runProgram(process.execPath, [program, 'doctor'])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^addon +does not load$/m)
    expect(stdout).toMatch(/✗ The addon does not load, so no model runs\.\n {2}.*npm install/)
  })
})

/** An installation of the package without an addon; gives its command. */
function installation(): string {
  const home = join(folder, 'node_modules', 'nodemlx')
  cpSync(join(ROOT, 'dist'), join(home, 'dist'), { recursive: true })
  cpSync(join(ROOT, 'package.json'), join(home, 'package.json'))
  return join(home, 'dist', 'cli', 'main.js')
}

/** A program on the PATH of {@link setUp}. */
function program(name: string, script: string): void {
  file(join('bin', name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(folder, 'bin', name), 0o755)
}

const PACKAGE = join('node_modules', '@nodemlx', 'linux-x64-cuda13')

function setUp(...args: string[]): Promise<Outcome> {
  return runProgram(process.execPath, [installation(), 'setup', ...args], {
    // The tools of the fake programs, and nothing else.
    environment: { PATH: join(folder, 'bin') },
  })
}

const onLinux = process.platform === 'linux' && process.arch === 'x64'

describe.runIf(onLinux)('nodemlx setup cuda', () => {
  it('wants the package that computes with CUDA', async () => {
    const { code, stderr } = await setUp('cuda')
    expect(code).toBe(1)
    expect(stderr).toMatch(/npm install @nodemlx\/linux-x64-cuda13@\d/)
    expect((await setUp('metal')).code).toBe(2)
    expect((await setUp()).code).toBe(2)
  })

  it('says exactly what to type where there is no pip', async () => {
    file(join(PACKAGE, 'package.json'), '{}')
    program('python3', 'exit 1')
    const { code, stderr } = await setUp('cuda')
    expect(code).toBe(1)
    expect(stderr).toMatch(/There is no pip/)
    expect(stderr).toContain(`pip install --target ${join(folder, PACKAGE)} `)
    for (const wheel of CUDA_WHEELS) expect(stderr).toContain(wheel)
  })

  it('runs pip, once, and leaves everything in the package', async () => {
    file(join(PACKAGE, 'package.json'), '{}')
    const log = join(folder, 'log')
    // Writes what the wheels hold into the folder that is named behind --target.
    const files = [
      ...Object.keys(LIBRARIES),
      ...HEADERS.map((name) => join('nvidia/cu13/include', name)),
    ]
    program(
      'python3',
      `echo "$@" >> ${log}
case "$*" in *--version*) echo "pip 25.0 from /somewhere (python 3.12)"; exit;; esac
for name in ${files.join(' ')}; do /bin/mkdir -p "$5/\${name%/*}"; : > "$5/$name"; done`,
    )
    const first = await setUp('cuda')
    expect(first).toMatchObject({ code: 0, stdout: '' })
    expect(existsSync(join(folder, PACKAGE, 'nvidia/cu13/include/crt/mma.h'))).toBe(true)
    expect(first.stderr).toMatch(/All that CUDA needs is there\./)
    const [, call] = readFileSync(log, 'utf8').split('\n')
    expect(call).toMatch(new RegExp(`^-m pip install --target ${join(folder, PACKAGE)} `))
    for (const wheel of CUDA_WHEELS) expect(call).toContain(wheel)
    expect((await setUp('cuda')).stderr).toBe('All that CUDA needs is there already.\n')
    expect(readFileSync(log, 'utf8').match(/ install /g)).toHaveLength(1)
    const dry = await setUp('cuda', '--dry-run')
    expect(dry.stdout).toMatch(/^python3 -m pip install --target .*'nvidia-cublas==13\.\*'/)
    expect((await setUp('cuda', '--force')).code).toBe(0)
    expect(readFileSync(log, 'utf8').match(/ install /g)).toHaveLength(2)
  })

  it('fails where pip does, or brings too little', async () => {
    file(join(PACKAGE, 'package.json'), '{}')
    const version = 'case "$*" in *--version*) echo "pip 25.0"; exit;; esac'
    program('python3', `${version}\necho "no network" >&2; exit 3`)
    const failed = await setUp('cuda')
    expect(failed.code).toBe(1)
    expect(failed.stderr).toMatch(/no network\n.*pip could not install them \(status 3\)/)
    program('python3', version)
    const little = await setUp('cuda')
    expect(little.code).toBe(1)
    expect(little.stderr).toMatch(/there is still no cuBLAS/)
  })
})

describe('pip', () => {
  it('is found by any of its names', () => {
    expect(findPip(around({}))).toBeUndefined()
    expect(findPip(around({ 'pip3 --version': 'pip 25.0 from here' }))).toEqual(['pip3'])
    expect(findPip(around({ 'python -m pip --version': 'pip 24.0' }))).toEqual([
      'python',
      '-m',
      'pip',
    ])
  })

  it("is installed with the distribution's own tool", () => {
    expect(howToGetPip(around({}))).toMatch(/package manager/)
    for (const [release, tool] of [
      ['ID=ubuntu\nID_LIKE=debian\n', 'apt-get'],
      ['ID="rocky"\nID_LIKE="rhel centos fedora"\n', 'dnf'],
      ['ID=opensuse-leap\n', 'zypper'],
      ['ID=arch\n', 'pacman'],
    ]) {
      file('etc/os-release', release)
      expect(howToGetPip(around({}))).toContain(tool)
    }
  })

  it('is written as a shell takes it', () => {
    expect(shellLine(['pip', 'a b', "it's", 'x==1.*'])).toBe("pip 'a b' 'it'\\''s' 'x==1.*'")
  })
})
