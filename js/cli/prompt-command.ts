import { fstatSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import type { Message, Prompt } from '../types.js'
import type { Arguments } from './arguments.js'
import { chat } from './chat-command.js'
import { EXIT, UsageError } from './errors.js'
import { statistics } from './format.js'
import { interruptible, loadWithBar } from './loading.js'
import { printAnswer, write } from './output.js'
import { generateSettings, loadSettings, modelName } from './settings.js'
import { styleFor } from './style.js'

/** After this long without input a terminal is told what is waited for. */
const QUIET_MS = 2000

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
  const piped = await readPiped()
  const alone = typed === '' && process.stdin.isTTY && process.stdout.isTTY
  if (alone && !flags.has('json') && !flags.has('raw')) return chat(args)
  const prompt = [typed, piped?.trimEnd()]
    .filter((part) => part !== undefined && part !== '')
    .join('\n\n')
  if (prompt.trim() === '') throw new UsageError('there is no prompt; type one, or pipe it in')

  return interruptible(async (signal) => {
    const model = await loadWithBar(name, { ...load, signal })
    try {
      const generation = model.generate(promptOf(prompt, system, flags.has('raw')), {
        ...settings,
        signal,
      })
      if (flags.has('json')) {
        await write(`${JSON.stringify({ model: name, ...(await generation) })}\n`)
        return EXIT.ok
      }
      const result = await printAnswer(generation)
      if (!flags.has('no-stats'))
        process.stderr.write(`${styleFor(process.stderr).dim(statistics(result))}\n`)
      return EXIT.ok
    } finally {
      await model.dispose()
    }
  })
}

function promptOf(prompt: string, system: string | undefined, raw: boolean): Prompt {
  if (raw) return { text: prompt }
  if (system === undefined) return prompt
  const messages: Message[] = [
    { role: 'system', content: system },
    { role: 'user', content: prompt },
  ]
  return messages
}

/** What is piped or redirected into the program; `undefined` where standard input is a terminal, closed or /dev/null. */
async function readPiped(): Promise<string | undefined> {
  if (process.stdin.isTTY || !isReadable()) return undefined
  const hint = setTimeout(() => {
    if (process.stderr.isTTY)
      process.stderr.write('nodemlx: reading from standard input; "</dev/null" leaves it out\n')
  }, QUIET_MS)
  try {
    return await text(process.stdin)
  } finally {
    clearTimeout(hint)
  }
}

/** Pipes, files and sockets can hold a prompt; /dev/null cannot, and a closed input is none. */
function isReadable(): boolean {
  try {
    const stat = fstatSync(0)
    return stat.isFIFO() || stat.isFile() || stat.isSocket()
  } catch {
    return false
  }
}
