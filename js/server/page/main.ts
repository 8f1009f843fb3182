import { answer } from './answering.js'
import { KeyNeeded, listModels, type ServedModel } from './api.js'
import {
  addTurn,
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

  edit(turn: Turn, content: string): void {
    const { parent } = turn
    void this.#say(content, parent)
  }

  fork(turn: Turn): void {
    const copy = fork(this.#conversation, turn)
    void this.#storage.put(copy).then(() => {
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
      if (text === '' || this.#running !== undefined) return
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

  async #say(content: string, parent: string | undefined): Promise<void> {
    if (this.#running !== undefined) return
    const turn = addTurn(this.#conversation, { parent, role: 'user', content })
    await this.#answer(turn.id)
  }

  /** Has the model answer a turn. */
  async #answer(parent: string | undefined): Promise<void> {
    if (this.#running !== undefined) return
    const conversation = this.#conversation
    const model = this.#models.value
    const turn = addTurn(conversation, { parent, role: 'assistant', content: '', model })
    const abort = new AbortController()
    this.#running = { conversation, turn, abort }
    this.#showRunning()
    this.#showTurns()
    this.#scroller.scrollTop = this.#scroller.scrollHeight
    this.#status.textContent = 'Answering'
    this.#notice.textContent = ''
    const options = {
      model,
      temperature: numberSetting('temperature'),
      maxTokens: numberSetting('max-tokens'),
    }
    let said: string
    try {
      await answer(conversation, turn, options, abort.signal, () => {
        // The last picture may come when the answer is complete, and shown so.
        if (this.#running?.turn !== turn) return
        this.#follow(() => this.#views.get(turn.id)?.show(turn, undefined))
      })
      said = turn.ended === 'stopped' ? 'The answer was stopped' : 'The answer is complete'
    } catch (error) {
      said = 'The answer failed'
      await this.#failed(error)
    }
    this.#running = undefined
    this.#showRunning()
    await this.#save(conversation)
    if (this.#conversation === conversation) {
      this.#follow(() => {
        this.#showTurns()
      })
    }
    this.#status.textContent = said
    // Its context is known once it is loaded.
    if (this.#served.some(({ id, state }) => id === model && state !== 'loaded'))
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
    if (this.#running?.conversation.id === conversation.id) this.#running.abort.abort()
    await this.#storage.delete(conversation.id)
    if (this.#conversation.id === conversation.id) this.#open(newConversation(''))
    else await this.#showChats()
  }

  async #save(conversation: Conversation): Promise<void> {
    await this.#storage.put(conversation)
    await this.#showChats()
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
    this.#turns.replaceChildren(...elements)
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
