import { onAbort } from '../signal.js'
import type { Message, Prompt } from '../types.js'
import type { Arguments } from './arguments.js'
import { chat } from './chat-command.js'
import { EXIT, Interrupted, UsageError } from './errors.js'
import { statistics } from './format.js'
import { leaveInput, readInput } from './input.js'
import { interruptible, loadWithBar } from './loading.js'
import { printAnswer, write } from './output.js'
import { generateSettings, loadSettings, modelName } from './settings.js'
import { styleFor } from './style.js'

/** `nodemlx [prompt]`: answers one prompt. */
export async function answer(args: Arguments): Promise<number> {
  const { flags, positionals } = args
  const system = flags.get('system')
  if (system !== undefined && flags.has('raw'))
    throw new UsageError('--system needs the chat template, which --raw leaves out')
  const load = loadSettings(flags)
  const settings = generateSettings(flags)
  const name = modelName(flags)

  const typed = positionals.join(' ')
  const alone = typed === '' && !args.stdin && process.stdin.isTTY && process.stdout.isTTY
  if (alone && !flags.has('json') && !flags.has('raw')) return chat(args)
  const reading = readInput({ typed: typed !== '', asked: args.stdin })
  // Without a typed prompt there may be none, and then no model is loaded.
  if (typed.trim() === '') promptOf(typed, await reading)

  return interruptible(async (signal) => {
    // A typed prompt is enough to begin with, whatever else comes.
    const loading = loadWithBar(name, { ...load, signal })
    try {
      const prompt = promptOf(typed, await unlessEnded(reading, loading, signal))
      const model = await loading
      const generation = model.generate(layOut(prompt, system, flags.has('raw')), {
        ...settings,
        signal,
      })
      if (flags.has('json')) {
        await write(`${JSON.stringify({ model: name, ...(await generation) })}\n`)
        return EXIT.ok
      }
      const result = await printAnswer(generation, { markdown: !flags.has('plain') })
      if (!flags.has('no-stats'))
        process.stderr.write(`${styleFor(process.stderr).dim(statistics(result))}\n`)
      return EXIT.ok
    } finally {
      leaveInput()
      await loading.then(
        (model) => model.dispose(),
        () => undefined,
      )
    }
  })
}

/** Waits for the input, unless the model fails to load meanwhile, or the user has had enough. */
function unlessEnded<T>(
  reading: Promise<T>,
  loading: Promise<unknown>,
  signal: AbortSignal,
): Promise<T> {
  const ended = new Promise<never>((_, reject) => {
    onAbort(signal, () => {
      reject(new Interrupted())
    })
  })
  return Promise.race([reading, loading.then(() => reading), ended])
}

function promptOf(typed: string, piped: string | undefined): string {
  const parts = [typed, piped?.trimEnd()].filter((part) => part !== undefined && part !== '')
  const prompt = parts.join('\n\n')
  if (prompt.trim() === '') throw new UsageError('there is no prompt; type one, or pipe it in')
  return prompt
}

function layOut(prompt: string, system: string | undefined, raw: boolean): Prompt {
  if (raw) return { text: prompt }
  if (system === undefined) return prompt
  const messages: Message[] = [
    { role: 'system', content: system },
    { role: 'user', content: prompt },
  ]
  return messages
}
