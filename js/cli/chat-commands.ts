import { isHere } from '../hub/locate.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'
import { closest } from '../validate.js'
import type { Conversation } from './conversation.js'
import { modelLine } from './format.js'
import { generateSetting } from './settings.js'
import type { Style } from './style.js'

/** What a command of the chat works with. */
export interface ChatContext {
  conversation: Conversation
  /** Tells the user something. */
  note: (text: string) => void
  style: Style
  signal: AbortSignal
}

interface ChatCommand {
  /** The first is the one that the help shows. */
  names: readonly string[]
  argument?: string
  help: string
  /** Gives `true` where the chat ends. */
  run(argument: string, context: ChatContext): Promise<boolean> | boolean
}

const COMMANDS: readonly ChatCommand[] = [
  {
    names: ['model'],
    argument: 'NAME',
    help: 'Go on with another model; alone: show which it is',
    async run(name, { conversation, note, signal }) {
      if (name !== '') await conversation.changeModel(name, signal)
      note(`${conversation.modelName}: ${modelLine(conversation.model.info)}`)
      return false
    },
  },
  {
    names: ['list'],
    help: 'Show the names of models; those marked with * are on this machine',
    async run(_, { conversation, note, style }) {
      const rows = await Promise.all(
        [['demo', 'comes with nodemlx'] as const, ...Object.entries(RECOMMENDED_MODELS)].map(
          async ([alias, repository]) => {
            const mark = (await isHere(alias)) ? '*' : ' '
            const line = `${mark} ${alias.padEnd(16)} ${style.dim(repository)}`
            return alias === conversation.modelName ? style.bold(line) : line
          },
        ),
      )
      note(rows.join('\n'))
      return false
    },
  },
  {
    names: ['system'],
    argument: 'TEXT',
    help: 'Set the system prompt; alone: show it; "none" removes it',
    run(text, { conversation, note }) {
      if (text !== '') conversation.system = text === 'none' ? undefined : text
      note(
        conversation.system === undefined
          ? 'There is no system prompt.'
          : `System prompt: ${conversation.system}`,
      )
      return false
    },
  },
  setting('temp', 'temperature', 'X', 'Set the temperature'),
  setting('tokens', 'maxTokens', 'N', 'Set the most tokens of an answer'),
  setting('rep', 'repetitionPenalty', 'X', 'Set the repetition penalty'),
  {
    names: ['image'],
    argument: 'FILE',
    help: 'Show the model an image (models that see only)',
    run(_, { conversation, note }) {
      note(`${conversation.modelName} takes text only; it cannot look at images.`)
      return false
    },
  },
  {
    names: ['clear'],
    help: 'Forget the conversation',
    run(_, { conversation, note }) {
      conversation.clear()
      note('The conversation is forgotten.')
      return false
    },
  },
  {
    names: ['help', '?'],
    help: 'Show this help',
    run(_, { note, style }) {
      const label = ({ names, argument }: ChatCommand): string =>
        `/${names[0] ?? ''}${argument === undefined ? '' : ` ${argument}`}`
      const left = Math.max(...COMMANDS.map((command) => label(command).length))
      note(
        [
          ...COMMANDS.map(
            (command) => `${style.cyan(label(command).padEnd(left))}  ${command.help}`,
          ),
          '',
          'A line that ends with \\ goes on in the next one; """ opens and closes a longer text.',
          'Ctrl-C stops an answer, Ctrl-D leaves.',
        ].join('\n'),
      )
      return false
    },
  },
  { names: ['quit', 'exit', 'q'], help: 'Leave', run: () => true },
]

/** A command that shows or sets a number; "default" gives it back to the model. */
function setting(
  name: string,
  option: 'temperature' | 'maxTokens' | 'repetitionPenalty',
  argument: string,
  help: string,
): ChatCommand {
  return {
    names: [name],
    argument,
    help: `${help}; alone: show it; "default" leaves it to the model`,
    run(text, { conversation, note }) {
      if (text !== '') {
        const value = text === 'default' ? undefined : Number(text)
        conversation.settings = generateSetting({ ...conversation.settings, [option]: value })
      }
      note(`${option}: ${conversation.settings[option] ?? "the model's default"}`)
      return false
    },
  }
}

/** Whether a line is a command, and not something said. */
export function isChatCommand(line: string): boolean {
  return /^\/[a-z?]+(\s|$)/i.test(line)
}

/** Runs a command; gives `true` where the chat ends. */
export async function runChatCommand(line: string, context: ChatContext): Promise<boolean> {
  const [, name = '', argument = ''] = /^\/(\S+)\s*(.*)$/s.exec(line) ?? []
  const command = COMMANDS.find(({ names }) => names.includes(name.toLowerCase()))
  if (command === undefined) {
    const near = closest(
      name,
      COMMANDS.flatMap(({ names }) => names),
    )
    context.note(
      `There is no command /${name}${near === undefined ? '' : `; did you mean /${near}?`} (/help shows all)`,
    )
    return false
  }
  return command.run(argument.trim(), context)
}

/** Completes the names of commands and, after /model, of models. */
export function completeChatCommand(line: string): [string[], string] {
  const model = /^\/model\s+(\S*)$/.exec(line)
  const [words, start] = model
    ? [['demo', ...Object.keys(RECOMMENDED_MODELS)], model[1] ?? '']
    : [
        COMMANDS.map(
          ({ names, argument }) => `/${names[0] ?? ''}${argument === undefined ? '' : ' '}`,
        ),
        line,
      ]
  return line.startsWith('/') ? [words.filter((word) => word.startsWith(start)), start] : [[], line]
}
