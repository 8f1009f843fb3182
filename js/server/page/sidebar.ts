import type { Conversation } from './conversation.js'
import { byId, element } from './elements.js'

export interface SidebarActions {
  create: () => void
  open: (conversation: Conversation) => void
  delete: (conversation: Conversation) => void
}

/** The list of conversations; on a phone it comes over the page. */
export class Sidebar {
  readonly #root = byId('sidebar', HTMLElement)
  readonly #menu = byId('menu', HTMLButtonElement)
  readonly #shade = byId('shade', HTMLElement)
  readonly #list = byId('chats', HTMLUListElement)
  readonly #actions: SidebarActions
  #conversations: ReadonlyMap<string, Conversation> = new Map()
  #shown = ''

  constructor(actions: SidebarActions) {
    this.#actions = actions
    byId('new-chat', HTMLButtonElement).addEventListener('click', () => {
      this.close()
      actions.create()
    })
    this.#menu.addEventListener('click', () => {
      this.#toggle(!('open' in this.#root.dataset))
    })
    this.#shade.addEventListener('click', () => {
      this.close()
    })
    this.#root.addEventListener('keydown', ({ key }) => {
      if (key !== 'Escape') return
      this.close()
      this.#menu.focus()
    })
  }

  close(): void {
    this.#toggle(false)
  }

  show(conversations: readonly Conversation[], current: Conversation): void {
    this.#conversations = new Map(conversations.map((each) => [each.id, each]))
    // Where nothing has changed, what has the focus keeps it.
    const shown = JSON.stringify([current.id, conversations.map(({ id, title }) => [id, title])])
    if (shown === this.#shown) return
    this.#shown = shown
    this.#list.replaceChildren(
      ...conversations.map(({ id, title }) => this.#entry(id, title, id === current.id)),
    )
  }

  #entry(id: string, title: string, isCurrent: boolean): HTMLLIElement {
    const run = (action: (conversation: Conversation) => void): void => {
      const conversation = this.#conversations.get(id)
      if (conversation !== undefined) action(conversation)
    }
    const open = element(
      'button',
      { type: 'button', class: 'quiet open', 'aria-current': isCurrent ? 'page' : undefined },
      title,
    )
    open.addEventListener('click', () => {
      this.close()
      run(this.#actions.open)
    })
    const remove = element(
      'button',
      { type: 'button', class: 'quiet', 'aria-label': `Delete ${title}` },
      '✕',
    )
    remove.addEventListener('click', () => {
      run(this.#actions.delete)
    })
    return element('li', { 'data-current': isCurrent }, open, remove)
  }

  #toggle(open: boolean): void {
    if (open) this.#root.dataset['open'] = ''
    else delete this.#root.dataset['open']
    this.#shade.hidden = !open
    this.#menu.setAttribute('aria-expanded', String(open))
    if (open) this.#root.querySelector('button')?.focus()
  }
}
