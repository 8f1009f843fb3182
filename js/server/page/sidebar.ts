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
    this.#list.replaceChildren(
      ...conversations.map((conversation) => this.#entry(conversation, current)),
    )
  }

  #entry(conversation: Conversation, current: Conversation): HTMLLIElement {
    const isCurrent = conversation.id === current.id
    const open = element(
      'button',
      { type: 'button', class: 'quiet open', 'aria-current': isCurrent ? 'page' : undefined },
      conversation.title,
    )
    open.addEventListener('click', () => {
      this.close()
      this.#actions.open(conversation)
    })
    const remove = element(
      'button',
      { type: 'button', class: 'quiet', 'aria-label': `Delete ${conversation.title}` },
      '✕',
    )
    remove.addEventListener('click', () => {
      this.#actions.delete(conversation)
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
