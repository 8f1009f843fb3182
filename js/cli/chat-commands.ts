import { isHere } from '../hub/locate.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'
import type { GenerationResult } from '../types.js'
import { closest } from '../validate.js'
import { readChat, readTools, saveChat } from './chat-files.js'
import { completeFile, completeModel, type Completion } from './completion.js'
import type { Conversation } from './conversation.js'
import { counted, modelLine } from './format.js'
import { generateSetting } from './settings.js'
import type { Style } from './style.js'

/** What a command of the chat works with. */
export interface ChatContext {
  conversation: Conversation
  /** Tells the user something. */
  note: (text: string) => void
  /** Tells the user how an answer went. */
  answered: (result: GenerationResult) => void
  style: Style
  signal: AbortSignal
}

interface ChatCommand {
  /** The first is the one that the help shows. */
  names: readonly string[]
  argument?: string
  help: string
  /** Words that its argument can become. */
  complete?: (start: string) => string[] | Promise<string[]>
  /** Gives `true` where the chat ends. */
  run(argument: string, context: ChatContext): Promise<boolean> | boolean
}

const COMMANDS: readonly ChatCommand[] = [
  {
    names: ['model'],
    argument: 'NAME',
    help: 'Go on with another model; alone: show which it is',
    complete: completeModel,
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
      const all = [['demo', 'comes with nodemlx'] as const, ...Object.entries(RECOMMENDED_MODELS)]
      const width = Math.max(...all.map(([alias]) => alias.length))
      const rows = await Promise.all(
        all.map(async ([alias, repository]) => {
          const mark = (await isHere(alias)) ? '*' : ' '
          const line = `${mark} ${alias.padEnd(width)}  ${style.dim(repository)}`
          return alias === conversation.modelName ? style.bold(line) : line
        }),
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
      const { chat } = conversation
      if (text !== '') chat.system = text === 'none' ? undefined : text
      note(
        chat.system === undefined ? 'There is no system prompt.' : `System prompt: ${chat.system}`,
      )
      return false
    },
  },
  {
    names: ['retry'],
    help: 'Answer the last message again',
    async run(_, { conversation, note, answered, signal }) {
      if (conversation.chat.messages.some(({ role }) => role === 'user'))
        answered(await conversation.retry(signal))
      else note('Nothing was said that could be answered again.')
      return false
    },
  },
  {
    names: ['fork'],
    argument: 'N',
    help: 'Go on in a copy of the conversation; with a number: in that one',
    run(text, { conversation, note }) {
      if (text === '') conversation.fork()
      else if (!conversation.goTo(Number(text))) {
        note(`There are conversations 1 to ${conversation.place.count}, and no ${text}.`)
        return false
      }
      const { number, count } = conversation.place
      const which = `conversation ${number} of ${count}, ${said(conversation)}`
      note(`This is ${which}. /fork N goes to another.`)
      return false
    },
  },
  {
    names: ['save'],
    argument: 'FILE',
    help: 'Keep the conversation in a file',
    complete: completeFile,
    run(file, { conversation, note }) {
      if (file === '') note('Name a file: /save FILE')
      else {
        const { modelName: model, chat } = conversation
        saveChat(file, { model, ...chat.toJSON() })
        note(`The conversation is in ${file}; /load goes on with it.`)
      }
      return false
    },
  },
  {
    names: ['load'],
    argument: 'FILE',
    help: 'Go on with a conversation that was kept',
    complete: completeFile,
    async run(file, { conversation, note }) {
      if (file === '') {
        note('Name a file: /load FILE')
        return false
      }
      const { model, ...json } = await readChat(file)
      conversation.restore(json)
      const other =
        model === undefined || model === conversation.modelName ? '' : `, had with ${model}`
      note(`A conversation of ${said(conversation)}${other}.`)
      return false
    },
  },
  {
    names: ['tools'],
    argument: 'FILE',
    help: 'Let the model call the tools of a module; alone: show them; "none" removes them',
    complete: completeFile,
    async run(file, { conversation, note, style }) {
      if (file !== '') {
        const tools = file === 'none' ? undefined : await readTools(file)
        conversation.settings = generateSetting({ ...conversation.settings, tools })
      }
      const tools = conversation.settings.tools ?? []
      const rows = tools.map((tool) => {
        const { name, description = '' } = 'function' in tool ? tool.function : tool
        return `${style.cyan(name)}  ${description}`
      })
      note(tools.length === 0 ? 'There are no tools.' : rows.join('\n'))
      return false
    },
  },
  {
    names: ['think'],
    argument: 'HOW',
    help:
      'Think off, low, medium, high or N tokens; alone: show it; ' +
      '"default" leaves it to the model',
    complete: (start) =>
      ['off', 'low', 'medium', 'high', 'default'].filter((word) => word.startsWith(start)),
    run(text, { conversation, note }) {
      if (text !== '') {
        const budget = Number(text)
        const reasoning =
          text === 'default' ? undefined : Number.isNaN(budget) ? text : { budgetTokens: budget }
        conversation.settings = generateSetting({ ...conversation.settings, reasoning })
      }
      const { reasoning = "the model's default" } = conversation.settings
      const how =
        typeof reasoning === 'string'
          ? reasoning
          : `up to ${counted(reasoning.budgetTokens, 'token')}`
      note(`reasoning: ${how}`)
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
      conversation.chat.messages = []
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
          'Alt-Enter begins a new line, as does \\ at the end of one; """ opens and closes ' +
            'a longer',
          'text, and what is pasted stays together. Tab completes commands, models and files.',
          'Ctrl-C stops an answer and gives up what is being typed, Ctrl-D leaves.',
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

/** Completes the names of commands, and what they work on. */
export async function completeChatCommand(line: string): Promise<Completion> {
  if (!line.startsWith('/')) return [[], line]
  const [, name, argument] = /^\/(\S+)\s+(.*)$/.exec(line) ?? []
  if (name === undefined || argument === undefined) {
    const all = COMMANDS.map(({ names: [first = ''], argument: more }) =>
      more === undefined ? `/${first}` : `/${first} `,
    )
    return [all.filter((word) => word.startsWith(line)), line]
  }
  const command = COMMANDS.find(({ names }) => names.includes(name.toLowerCase()))
  return [(await command?.complete?.(argument)) ?? [], argument]
}

/** How long a conversation is. */
function said({ chat }: Conversation): string {
  const messages = chat.messages.filter(({ role }) => role !== 'tool')
  return counted(messages.length, 'message')
}
