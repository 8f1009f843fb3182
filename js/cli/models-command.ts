import { cacheFolder } from '../hub/environment.js'
import { downloadModel, listModels, removeModel } from '../models.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'
import type { StoredModel } from '../types.js'
import type { Arguments } from './arguments.js'
import { EXIT, Interrupted, UsageError } from './errors.js'
import { bytes } from './format.js'
import { interruptible, withBar } from './loading.js'
import { OutputClosed, write } from './output.js'
import { checked } from './settings.js'
import { styleFor } from './style.js'

/** `nodemlx download`: gets models into the cache. */
export async function downloadCommand({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length === 0) throw new UsageError('name a model to download', 'download')
  const include = flags.all('include')
  const exclude = flags.all('exclude')
  const revision = flags.get('revision')
  const verify = flags.has('verify')
  return interruptible((signal) =>
    forEachName(positionals, async (name) => {
      const model = await checked(() =>
        withBar(name, (onProgress) =>
          downloadModel(name, { revision, include, exclude, verify, onProgress, signal }),
        ),
      )
      if (flags.has('json')) await write(`${JSON.stringify({ model: name, ...model })}\n`)
      else await write(`${model.path}\n`)
    }),
  )
}

/** Does something for each name, also where it fails for another one. */
async function forEachName(
  names: readonly string[],
  run: (name: string) => Promise<void>,
): Promise<number> {
  let failure: { error: unknown } | undefined
  for (const name of names) {
    try {
      await run(name)
    } catch (error) {
      if (error instanceof OutputClosed || isInterruption(error)) throw error
      // The last one is told, and seen in the exit code, as that of a single name is.
      if (failure !== undefined) process.stderr.write(`nodemlx: ${messageOf(failure.error)}\n`)
      failure = { error }
    }
  }
  if (failure !== undefined) throw failure.error
  return EXIT.ok
}

function isInterruption(error: unknown): boolean {
  return (
    error instanceof Interrupted || (error instanceof Error && error.cause instanceof Interrupted)
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** `nodemlx models`: what is in the cache. */
export async function modelsCommand({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length > 0) throw new UsageError('takes no names', 'models')
  const models = await listModels()
  if (flags.has('json')) {
    await write(`${JSON.stringify(models)}\n`)
    return EXIT.ok
  }
  if (models.length === 0) {
    process.stderr.write(`There are no models in ${cacheFolder()} yet.\n`)
    return EXIT.ok
  }
  await write(table(models))
  return EXIT.ok
}

/** `nodemlx rm`: removes models from the cache. */
export async function removeCommand({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length === 0) throw new UsageError('name a model to remove', 'rm')
  return forEachName(positionals, async (name) => {
    const { bytes: freed } = await checked(() => removeModel(name))
    if (flags.has('json')) await write(`${JSON.stringify({ model: name, bytes: freed })}\n`)
    else process.stderr.write(`${name}: ${bytes(freed)} are free again.\n`)
  })
}

function table(models: readonly StoredModel[]): string {
  const style = styleFor(process.stdout)
  const rows = models.map((model) => [
    model.id,
    bytes(model.bytes),
    model.lastUsed.getTime() === 0 ? '' : model.lastUsed.toISOString().slice(0, 10),
    state(model),
    aliases(model.id),
  ])
  const head = ['model', 'size', 'last used', 'runs', 'alias']
  const widths = head.map((title, at) =>
    Math.max(title.length, ...rows.map((row) => (row[at] ?? '').length)),
  )
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => (at === 1 ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  return [style.bold(line(head)), ...rows.map(line), ''].join('\n')
}

/** Whether the newest of a model's revisions can be run. */
function state({ revisions }: StoredModel): string {
  const revision = revisions.find(({ references }) => references.includes('main')) ?? revisions[0]
  if (revision?.complete !== true) return 'in part'
  return revision.runs ? 'yes' : `no (${revision.modelType ?? 'no model'})`
}

function aliases(id: string): string {
  return Object.entries<string>(RECOMMENDED_MODELS)
    .filter(([, repository]) => repository === id)
    .map(([alias]) => alias)
    .join(', ')
}
