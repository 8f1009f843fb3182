import { answer } from './answering.js'
import { KeyNeeded, listModels, type ServedModel } from './api.js'
import {
  addTurn,
  adopt,
  branch,
  fork,
  newConversation,
  showBranch,
  siblings,
  type Conversation,
  type Turn,
} from './conversation.js'
import { byId, element } from './elements.js'
import { numberSetting, openSettings, showTheme } from './settings.js'
import { Sidebar } from './sidebar.js'
import { keepSetting, setting, Storage } from './storage.js'
import { TurnView, type TurnActions } from './turn-view.js'

/** How far from the end the conversation is still followed while it grows, in pixels. */
const NEAR_END = 80

/** How often what is there of an answer is kept while it is being written, in milliseconds. */
const KEEP_MS = 1000

/** Who tries to ask twice at the same time is told why nothing happens. */
const BUSY = 'Another answer is being written: wait for it, or stop it.'

class App implements TurnActions {
  readonly #storage: Storage
  readonly #prompt = byId('prompt', HTMLTextAreaElement)
  readonly #send = byId('send', HTMLButtonElement)
  readonly #stop = byId('stop', HTMLButtonElement)
  readonly #notice = byId('notice', HTMLElement)
  readonly #status = byId('status', HTMLElement)
  readonly #scroller = byId('scroller', HTMLElement)
  readonly #turns = byId('turns', HTMLOListElement)
  readonly #models = byId('model', HTMLSelectElement)
  readonly #sidebar: Sidebar
  readonly #views = new Map<string, TurnView>()
  /** Tells other tabs of a conversation that was kept or deleted, by its id. */
  readonly #tabs = new BroadcastChannel('nodemlx')
  /** The turns that were written in this tab. */
  readonly #own = new Set<string>()
  readonly #deleted = new Set<string>()
  #served: ServedModel[] = []
  #conversation = newConversation('')
  /** The answer that is being written. */
  #running: { conversation: Conversation; turn: Turn; abort: AbortController } | undefined

  constructor(storage: Storage) {
    this.#storage = storage
    this.#sidebar = new Sidebar({
      create: () => {
        this.#open(newConversation(''))
        this.#prompt.focus()
      },
      open: (conversation) => {
        this.#open(conversation)
      },
      delete: (conversation) => {
        void this.#delete(conversation)
      },
    })
    this.#listen()
  }

  async start(): Promise<void> {
    const [latest] = await this.#storage.all()
    this.#open(latest ?? this.#conversation)
    await this.#showModels()
    this.#prompt.focus()
  }

  retry(turn: Turn): void {
    void this.#answer(turn.parent)
  }

  edit(turn: Turn, content: string): boolean {
    if (this.#isBusy()) return false
    void this.#say(content, turn.parent)
    return true
  }

  fork(turn: Turn): void {
    const copy = fork(this.#conversation, turn)
    void this.#save(copy).then(() => {
      this.#open(copy)
    })
  }

  shift(turn: Turn, by: number): void {
    const all = siblings(this.#conversation, turn)
    const other = all[all.findIndex(({ id }) => id === turn.id) + by]
    if (other === undefined || this.#running?.conversation === this.#conversation) return
    showBranch(this.#conversation, other)
    this.#showTurns()
    void this.#save(this.#conversation)
  }

  #listen(): void {
    byId('composer', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault()
      const text = this.#prompt.value.trim()
      if (text === '' || this.#isBusy()) return
      this.#prompt.value = ''
      void this.#say(text, this.#conversation.leaf)
    })
    this.#prompt.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
      event.preventDefault()
      this.#send.form?.requestSubmit()
    })
    this.#stop.addEventListener('click', () => {
      this.#running?.abort.abort()
    })
    document.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape') this.#running?.abort.abort()
    })
    this.#tabs.addEventListener('message', ({ data }) => {
      void this.#changedElsewhere(data as string)
    })
    this.#models.addEventListener('change', () => {
      keepSetting('model', this.#models.value)
      this.#showContext()
    })
    byId('open-settings', HTMLButtonElement).addEventListener('click', () => {
      void this.#settings()
    })
  }

  async #settings(): Promise<void> {
    const system = await openSettings(this.#conversation.system)
    if (system === undefined) return
    this.#conversation.system = system
    if (this.#conversation.leaf !== undefined) await this.#save(this.#conversation)
    await this.#showModels()
  }

  async #showModels(): Promise<void> {
    try {
      this.#served = await listModels()
      this.#notice.textContent = ''
    } catch (error) {
      await this.#failed(error)
      return
    }
    const chosen = setting('model')
    this.#models.replaceChildren(
      ...this.#served.map(({ id }) =>
        element('option', { value: id, selected: id === chosen }, id),
      ),
    )
    this.#showContext()
  }

  /** Whether an answer is being written; who would have another one is told. */
  #isBusy(): boolean {
    if (this.#running === undefined) return false
    this.#notice.textContent = BUSY
    return true
  }

  async #say(content: string, parent: string | undefined): Promise<void> {
    const turn = addTurn(this.#conversation, { parent, role: 'user', content })
    this.#own.add(turn.id)
    await this.#answer(turn.id)
  }

  /** Has the model answer a turn. */
  async #answer(parent: string | undefined): Promise<void> {
    if (this.#isBusy()) return
    const conversation = this.#conversation
    const { value: model } = this.#models
    const turn = addTurn(conversation, { parent, role: 'assistant', content: '', model })
    this.#own.add(turn.id)
    const abort = new AbortController()
    this.#running = { conversation, turn, abort }
    // A page may be left at any time.
    void this.#save(conversation)
    let kept = Date.now()
    this.#showRunning()
    this.#showTurns()
    this.#scroller.scrollTop = this.#scroller.scrollHeight
    this.#status.textContent = 'Answering'
    this.#notice.textContent = ''
    let said: string
    try {
      // The models may not be known yet: of a slow server, or after a key was given.
      if (turn.model === '') await this.#showModels()
      turn.model = this.#models.value
      const options = {
        model: turn.model,
        temperature: numberSetting('temperature'),
        maxTokens: numberSetting('max-tokens'),
      }
      await answer(conversation, turn, options, abort.signal, () => {
        // The last picture may come when the answer is complete, and shown so.
        if (this.#running?.turn !== turn) return
        if (Date.now() - kept > KEEP_MS) {
          kept = Date.now()
          void this.#keep(conversation)
        }
        this.#follow(() => this.#views.get(turn.id)?.show(turn, undefined))
      })
      said = turn.ended === 'stopped' ? 'The answer was stopped' : 'The answer is complete'
    } catch (error) {
      said = 'The answer failed'
      await this.#failed(error)
    }
    this.#running = undefined
    if (this.#notice.textContent === BUSY) this.#notice.textContent = ''
    this.#showRunning()
    await this.#save(conversation)
    if (this.#conversation === conversation) {
      this.#follow(() => {
        this.#showTurns()
      })
    }
    this.#status.textContent = said
    // Its context is known once it is loaded.
    if (this.#served.some(({ id, state }) => id === turn.model && state !== 'loaded'))
      await this.#showModels()
  }

  async #failed(error: unknown): Promise<void> {
    this.#notice.textContent = error instanceof Error ? error.message : String(error)
    if (error instanceof KeyNeeded) await this.#settings()
  }

  #open(conversation: Conversation): void {
    this.#conversation = conversation
    // What is being written into it now is newer than what was kept.
    if (this.#running?.conversation.id === conversation.id)
      this.#conversation = this.#running.conversation
    this.#views.clear()
    this.#showTurns()
    this.#scroller.scrollTop = this.#scroller.scrollHeight
    void this.#showChats()
  }

  async #delete(conversation: Conversation): Promise<void> {
    // An answer that ends by this does not bring it back.
    this.#deleted.add(conversation.id)
    if (this.#running?.conversation.id === conversation.id) this.#running.abort.abort()
    await this.#storage.delete(conversation.id)
    this.#tabs.postMessage(conversation.id)
    if (this.#conversation.id === conversation.id) this.#open(newConversation(''))
    else await this.#showChats()
  }

  async #save(conversation: Conversation): Promise<void> {
    await this.#keep(conversation)
    await this.#showChats()
  }

  async #keep(conversation: Conversation): Promise<void> {
    if (this.#deleted.has(conversation.id)) return
    try {
      await this.#storage.put(this.#asLeft(conversation), this.#own)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.#notice.textContent = `The browser does not keep this chat: ${why}`
      return
    }
    this.#tabs.postMessage(conversation.id)
  }

  /** A conversation as it is if the page is left now: what is being written is not complete. */
  #asLeft(conversation: Conversation): Conversation {
    const { turn } = this.#running?.conversation === conversation ? this.#running : {}
    if (turn === undefined) return conversation
    const left: Turn = { ...turn, ended: 'stopped' }
    return { ...conversation, turns: { ...conversation.turns, [turn.id]: left } }
  }

  /** Shows what another tab has done to a conversation. */
  async #changedElsewhere(id: string): Promise<void> {
    await this.#showChats()
    const conversation = this.#conversation
    const kept = id === conversation.id ? await this.#storage.get(id) : undefined
    if (kept === undefined || this.#conversation !== conversation) return
    adopt(conversation, kept, this.#own)
    this.#follow(() => {
      this.#showTurns()
    })
  }

  async #showChats(): Promise<void> {
    this.#sidebar.show(await this.#storage.all(), this.#conversation)
  }

  #showRunning(): void {
    const isRunning = this.#running !== undefined
    const hadFocus = document.activeElement === this.#stop
    this.#send.hidden = isRunning
    this.#stop.hidden = !isRunning
    if (hadFocus) this.#prompt.focus()
  }

  #showTurns(): void {
    const shown = branch(this.#conversation)
    byId('title', HTMLElement).textContent = this.#conversation.title
    byId('welcome', HTMLElement).hidden = shown.length > 0
    const elements = shown.map((turn) => {
      const view = this.#views.get(turn.id) ?? new TurnView(turn, this)
      this.#views.set(turn.id, view)
      const all = siblings(this.#conversation, turn)
      const place = { index: all.findIndex(({ id }) => id === turn.id), count: all.length }
      view.show(turn, this.#running?.turn.id === turn.id ? undefined : place)
      return view.element
    })
    // Elements that are put in anew lose the focus.
    const isSame =
      elements.length === this.#turns.children.length &&
      elements.every((each, index) => each === this.#turns.children[index])
    if (!isSame) this.#turns.replaceChildren(...elements)
    this.#showContext()
  }

  /** How much of the model's context the conversation takes. */
  #showContext(): void {
    const stats = branch(this.#conversation).findLast((turn) => turn.stats !== undefined)?.stats
    const length = this.#served.find(({ id }) => id === this.#models.value)?.max_model_len
    byId('context', HTMLElement).hidden = stats === undefined
    if (stats === undefined) return
    const used = stats.promptTokens + stats.completionTokens
    const meter = byId('context-meter', HTMLMeterElement)
    meter.hidden = length === undefined
    meter.value = length === undefined ? 0 : used / length
    byId('context-text', HTMLElement).textContent =
      length === undefined ? `${used} tokens` : `${used} of ${length} tokens`
  }

  /** Changes the page, and goes along with its end unless the reader has scrolled away from it. */
  #follow(change: () => void): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR_END
    change()
    if (isNear) this.#scroller.scrollTop = this.#scroller.scrollHeight
  }
}

showTheme()
const app = new App(await Storage.open())
await app.start()
