import { NodeMlxError } from '../errors.js'
import type { GenerationResult } from '../types.js'
import { VERSION } from '../version.js'
import type { Arguments } from './arguments.js'
import { completeChatCommand, isChatCommand, runChatCommand } from './chat-commands.js'
import { readTools } from './chat-files.js'
import { Conversation } from './conversation.js'
import { EXIT, UsageError } from './errors.js'
import { modelLine, statistics } from './format.js'
import { readHistory, writeHistory } from './history.js'
import { sayWhereQuiet } from './input.js'
import { LineInput } from './line-input.js'
import { interruptible } from './loading.js'
import { describe } from './output.js'
import { generateSetting, generateSettings, loadSettings, modelName } from './settings.js'
import { styleFor } from './style.js'

/**
 * `nodemlx chat`: answers go to standard output, everything that is said about them to standard
 * error.
 */
export async function chat({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length > 0)
    throw new UsageError('a chat takes no prompt; type it once the chat has begun', 'chat')
  const name = modelName(flags)
  const load = loadSettings(flags)
  const toolFile = flags.get('tools')
  const tools = toolFile === undefined ? undefined : await readTools(toolFile)
  const settings = generateSetting({ ...generateSettings(flags), tools })
  const markdown = !flags.has('plain')
  const conversation = await interruptible((signal) =>
    Conversation.start(name, { load, settings, markdown }, signal),
  )
  conversation.chat.system = flags.get('system')

  const style = styleFor(process.stderr)
  const note = (text: string): void => {
    process.stderr.write(`${text}\n`)
  }
  if (process.stdin.isTTY) {
    note(`${style.bold(`nodemlx ${VERSION}`)}  ${name}: ${modelLine(conversation.model.info)}`)
    note(style.dim('/help shows the commands, Ctrl-C stops an answer, Ctrl-D leaves.'))
  }
  const answered = (result: GenerationResult): void => {
    if (!flags.has('no-stats')) note(style.dim(statistics(result)))
  }
  let kept = true
  const keepHistory = (lines: string[]): void => {
    if (!kept) return
    try {
      writeHistory(lines)
    } catch (error) {
      // That is no reason to end a chat, and worth a word once.
      kept = false
      note(style.dim(`What is typed is not kept: ${describe(error as NodeJS.ErrnoException)}`))
    }
  }
  const input = new LineInput({
    prompt: styleFor(process.stdout).bold('> '),
    history: process.stdin.isTTY ? readHistory() : [],
    onHistory: keepHistory,
    complete: completeChatCommand,
    note: (text) => {
      note(style.dim(text))
    },
  })
  try {
    for (;;) {
      const heard = sayWhereQuiet('reading messages from standard input, one a line, to its end')
      const line = await input.read().finally(heard)
      if (line === undefined) {
        if (process.stdin.isTTY) note('')
        return EXIT.ok
      }
      if (line.trim() === '') continue
      const controller = new AbortController()
      input.onInterrupt = () => {
        controller.abort()
      }
      try {
        const { signal } = controller
        if (!isChatCommand(line)) answered(await conversation.say(line, signal))
        else if (await runChatCommand(line, { conversation, note, answered, style, signal }))
          return EXIT.ok
      } catch (error) {
        // What went wrong with one message or command ends only that; without a terminal nobody
        // could do anything about it.
        if (!(error instanceof NodeMlxError) || !process.stdin.isTTY || conversation.model.disposed)
          throw error
        note(`${style.red('Error:')} ${explain(error)}`)
      }
    }
  } finally {
    input.close()
    await conversation.end()
  }
}

function explain(error: NodeMlxError): string {
  if (error.code === 'CONTEXT_OVERFLOW') {
    return `${error.message}. /clear begins a new conversation.`
  }
  return error.code === 'ABORTED' ? 'stopped' : error.message
}
