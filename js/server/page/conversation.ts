// A conversation is a tree: what is edited or tried again stays beside what was there before.

export interface Stats {
  tokensPerSecond: number
  completionTokens: number
  promptTokens: number
  cachedTokens: number
}

export interface ToolCall {
  id: string
  name: string
  arguments: string
}

export interface Turn {
  id: string
  /** The turn before; none for the first of a conversation. */
  parent: string | undefined
  role: 'user' | 'assistant'
  content: string
  reasoning?: string
  toolCalls?: ToolCall[]
  model?: string
  stats?: Stats
  /** Why the answer is not complete. */
  ended?: 'stopped' | 'length' | 'error'
  error?: string
}

export interface Conversation {
  id: string
  title: string
  /** When something was last said, in milliseconds. */
  updated: number
  system: string
  turns: Record<string, Turn>
  /** The last turn of the branch that is shown. */
  leaf: string | undefined
}

/** Browsers have `crypto.randomUUID` in secure contexts only: not over plain HTTP. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function newConversation(system: string): Conversation {
  return {
    id: newId(),
    title: 'New chat',
    updated: Date.now(),
    system,
    turns: {},
    leaf: undefined,
  }
}

/** The turns from the first to the one that is shown last. */
export function branch({ turns, leaf }: Conversation, last = leaf): Turn[] {
  const path: Turn[] = []
  for (let id = last; id !== undefined;) {
    const turn: Turn | undefined = turns[id]
    if (turn === undefined) break
    path.unshift(turn)
    id = turn.parent
  }
  return path
}

/** Adds a turn behind another one, and shows its branch. */
export function addTurn(conversation: Conversation, turn: Omit<Turn, 'id'>): Turn {
  const added = { ...turn, id: newId() }
  conversation.turns[added.id] = added
  conversation.leaf = added.id
  conversation.updated = Date.now()
  if (turn.role === 'user' && turn.parent === undefined) conversation.title = titleOf(turn.content)
  return added
}

function titleOf(text: string): string {
  const line = text.trim().split('\n')[0] ?? ''
  return line.length > 60 ? `${line.slice(0, 59)}…` : line
}

/** All turns in the place of one, itself included, in the order in which they came. */
export function siblings({ turns }: Conversation, turn: Turn): Turn[] {
  return Object.values(turns).filter(({ parent }) => parent === turn.parent)
}

/** Shows the branch of a turn down to its latest end. */
export function showBranch(conversation: Conversation, turn: Turn): void {
  let last = turn
  for (;;) {
    const next = Object.values(conversation.turns).findLast(({ parent }) => parent === last.id)
    if (next === undefined) break
    last = next
  }
  conversation.leaf = last.id
}

/**
 * Takes over what another tab has kept of a conversation, and goes along where it has gone on from
 * the turn that is shown last.
 *
 * @param own - The turns that were written here, and are newer than what was kept of them.
 */
export function adopt(
  conversation: Conversation,
  kept: Conversation,
  own: ReadonlySet<string>,
): void {
  for (const [id, turn] of Object.entries(kept.turns))
    if (!own.has(id)) conversation.turns[id] = turn
  const { leaf } = conversation
  if (branch(kept).some(({ id }) => id === leaf)) conversation.leaf = kept.leaf
}

/** A conversation of its own that goes on from a turn. */
export function fork(conversation: Conversation, turn: Turn): Conversation {
  const copy = newConversation(conversation.system)
  copy.title = `${conversation.title} (fork)`
  for (const each of branch(conversation, turn.id)) copy.turns[each.id] = structuredClone(each)
  copy.leaf = turn.id
  return copy
}

/** What the model gets to read. */
export function messagesOf(conversation: Conversation, last: string | undefined): object[] {
  const said = branch(conversation, last).map(({ role, content, toolCalls = [] }) => ({
    role,
    content,
    ...(toolCalls.length === 0
      ? {}
      : {
          tool_calls: toolCalls.map(({ id, name, arguments: args }) => ({
            id,
            type: 'function',
            function: { name, arguments: args },
          })),
        }),
  }))
  const { system } = conversation
  return system.trim() === '' ? said : [{ role: 'system', content: system }, ...said]
}
