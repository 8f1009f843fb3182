import { basename } from 'node:path'
import { codeOf } from '../errors.js'
import { listModels } from '../models.js'
import { serve, type LoadedModelOptions, type RunningServer } from '../server/index.js'
import type { LoadModelOptions } from '../types.js'
import type { Arguments, FlagValues } from './arguments.js'
import { EXIT, UsageError } from './errors.js'
import { fetchWithBar, interruptible } from './loading.js'
import { write } from './output.js'
import { checked, loadSettings } from './settings.js'
import { styleFor } from './style.js'

const GB = 1e9

/** `nodemlx serve [models…]` */
export async function serveCommand({ flags, positionals }: Arguments): Promise<number> {
  const load = loadSettings(flags)
  const models = await modelsToServe(positionals, flags, load)
  const verbose = flags.has('verbose')
  const server = await interruptible(async (signal) => {
    for (const { model } of Object.values(models)) await fetchWithBar(model, { ...load, signal })
    return listen(models, flags, verbose)
  })
  const style = styleFor(process.stdout)
  const names = Object.keys(models).join(', ')
  await write(`Serving ${names} at ${style.cyan(server.url)}\n`)
  await stopped()
  process.stderr.write(style.dim('Stopping…\n'))
  await server.close()
  return EXIT.ok
}

function listen(
  models: Record<string, LoadedModelOptions>,
  flags: FlagValues,
  verbose: boolean,
): Promise<RunningServer> {
  const keys = flags.all('api-key') ?? environmentKey()
  const memory = flags.number('memory')
  const idle = flags.number('idle')
  const port = flags.integer('port', 8080, 0, 65_535)
  const limits = {
    ...numberLimit(flags, 'concurrent', 'concurrent', 1),
    ...numberLimit(flags, 'queue', 'queued', 0),
    ...numberLimit(flags, 'max-tokens', 'maxTokens', 1),
  }
  return serveChecked(() =>
    serve({
      models,
      port,
      host: flags.get('host'),
      apiKey: keys,
      cors: flags.all('cors')?.includes('*') === true ? '*' : flags.all('cors'),
      hosts: flags.all('allow-host'),
      limits,
      memoryBytes: memory === undefined ? undefined : memory * GB,
      idleMs: idle === undefined ? undefined : idle * 60_000,
      page: flags.has('no-page') ? false : undefined,
      onError: (error) => {
        const shown = verbose && error instanceof Error ? error.stack : String(error)
        process.stderr.write(`${styleFor(process.stderr).red('nodemlx:')} ${shown ?? ''}\n`)
      },
    }),
  )
}

function environmentKey(): string[] | undefined {
  const key = process.env['NODEMLX_API_KEY']
  return key === undefined || key === '' ? undefined : [key]
}

function numberLimit(flags: FlagValues, flag: string, limit: string, min: number): object {
  if (!flags.has(flag)) return {}
  return { [limit]: flags.integer(flag, min, min, 1_000_000) }
}

/** What the server calls its options, as the command line does; and why it cannot listen. */
async function serveChecked(start: () => Promise<RunningServer>): Promise<RunningServer> {
  try {
    return await checked(start)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EADDRINUSE')
      throw new UsageError('the port is in use; choose another with --port', 'serve')
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
      throw new UsageError('--host: this machine has no such address', 'serve')
    throw error
  }
}

/** The models by the names under which they are served. */
async function modelsToServe(
  given: readonly string[],
  flags: FlagValues,
  load: LoadModelOptions,
): Promise<Record<string, LoadedModelOptions>> {
  const names: (readonly [string, string])[] = given.map((argument) => {
    const [, name, model] = /^([^=/\\]+)=(.+)$/s.exec(argument) ?? []
    return name === undefined || model === undefined
      ? ([servedName(argument), argument] as const)
      : ([name, model] as const)
  })
  if (flags.has('cached')) {
    const stored = await listModels()
    for (const { id, revisions } of stored) {
      const runs = revisions.some((revision) => revision.complete && revision.runs)
      if (runs && !names.some(([name]) => name === id)) names.push([id, id])
    }
  }
  if (names.length === 0) {
    const fallback = process.env['NODEMLX_MODEL'] ?? 'demo'
    names.push([servedName(fallback), fallback])
  }
  const doubled = names.find(([name], at) => names.findIndex(([other]) => other === name) !== at)
  if (doubled !== undefined)
    throw new UsageError(`two models are called ${doubled[0]}; give one as name=model`, 'serve')
  return Object.fromEntries(names.map(([name, model]) => [name, { ...load, model }]))
}

/** A folder goes by its last name: where it lies is none of a client's business. */
function servedName(model: string): string {
  return /^(?:[./~\\]|[a-z]:)/i.test(model) ? basename(model) : model
}

/** Waits for Ctrl-C or a request to end; a second Ctrl-C does not wait for answers. */
function stopped(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (): void => {
      if (asked) process.exit(EXIT.interrupted)
      asked = true
      resolve()
    }
    process.on('SIGINT', onSignal)
    process.on('SIGTERM', onSignal)
  })
}
