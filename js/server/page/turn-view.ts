import type { ToolCall, Turn } from './conversation.js'
import { element } from './elements.js'
import { copyButton, MarkdownView } from './render.js'

/** What can be done with a turn. */
export interface TurnActions {
  retry(turn: Turn): void
  /** Gives `false` where nothing can be asked now. */
  edit(turn: Turn, content: string): boolean
  fork(turn: Turn): void
  /** Shows the turn in the same place that is so many further on. */
  shift(turn: Turn, by: number): void
}

/** A turn of the conversation on the page. */
export class TurnView {
  readonly element: HTMLLIElement
  readonly #said: HTMLElement
  readonly #markdown = new MarkdownView()
  readonly #reasoning = new MarkdownView()
  readonly #thinking: HTMLDetailsElement
  readonly #calls = element('div')
  readonly #tools = element('div', { class: 'tools' })
  readonly #actions: TurnActions
  #turn: Turn

  constructor(turn: Turn, actions: TurnActions) {
    this.#turn = turn
    this.#actions = actions
    const isUser = turn.role === 'user'
    this.#said = isUser ? element('div', { class: 'said' }) : this.#markdown.element
    this.#thinking = element('details', { class: 'reasoning' }, element('summary', {}, 'Reasoning'))
    this.#thinking.append(this.#reasoning.element)
    const { model = '' } = turn
    const heading = element('h2', {}, isUser ? 'You' : model === '' ? 'Answer' : model)
    this.element = element(
      'li',
      { class: `turn ${turn.role}` },
      heading,
      ...(isUser ? [] : [this.#thinking]),
      this.#said,
      this.#calls,
      this.#tools,
    )
  }

  /**
   * Shows the turn as it is now.
   *
   * @param place - Which of the turns in its place it is, from 0, of how many; `undefined` while it
   * is being written.
   */
  show(turn: Turn, place: { index: number; count: number } | undefined): void {
    this.#turn = turn
    const { role, content, reasoning = '', toolCalls = [] } = turn
    if (role === 'user') {
      this.#said.textContent = content
    } else {
      this.#markdown.show(content)
      this.#thinking.hidden = reasoning === ''
      if (reasoning !== '') this.#reasoning.show(reasoning)
      this.#calls.replaceChildren(...toolCalls.map(callElement))
      const isWaiting = place === undefined && content === '' && toolCalls.length === 0
      this.#said.classList.toggle('waiting', isWaiting)
    }
    this.#tools.replaceChildren(...(place === undefined ? [] : this.#toolbar(place)))
  }

  #toolbar({ index, count }: { index: number; count: number }): (Node | string)[] {
    const turn = this.#turn
    const button = (label: string, text: string, run: () => void): HTMLButtonElement =>
      element('button', { type: 'button', class: 'quiet', 'aria-label': label, click: run }, text)
    const actions = this.#actions
    const others =
      count === 1
        ? []
        : [
            button('The one before', '‹', () => {
              actions.shift(turn, -1)
            }),
            element('span', {}, `${index + 1} / ${count}`),
            button('The next one', '›', () => {
              actions.shift(turn, 1)
            }),
          ]
    const own =
      turn.role === 'user'
        ? [
            button('Edit the message', 'Edit', () => {
              this.#edit()
            }),
          ]
        : [
            button('Answer again', 'Retry', () => {
              actions.retry(turn)
            }),
            button('Go on in a chat of its own', 'Fork', () => {
              actions.fork(turn)
            }),
          ]
    return [...others, copyButton(() => turn.content, 'Copy the message'), ...own, ...this.#facts()]
  }

  #facts(): Node[] {
    const { stats, ended, error } = this.#turn
    const words: Node[] = []
    if (stats !== undefined) {
      const { tokensPerSecond, completionTokens } = stats
      const text = `${completionTokens} tokens, ${tokensPerSecond.toFixed(1)} tokens/s`
      words.push(element('span', { class: 'stats' }, text))
    }
    if (ended === 'stopped') words.push(element('span', {}, '· stopped'))
    if (ended === 'length') words.push(element('span', {}, '· cut off at the limit of tokens'))
    if (ended === 'error') words.push(element('span', { class: 'error' }, error ?? 'failed'))
    return words
  }

  #edit(): void {
    const turn = this.#turn
    const label = 'The message, edited'
    const field = element('textarea', { rows: 4, 'aria-label': label })
    field.value = turn.content
    const close = (): void => {
      form.replaceWith(this.#said)
      this.#tools.hidden = false
    }
    const form = element(
      'form',
      { class: 'edit' },
      field,
      element(
        'div',
        { class: 'tools' },
        element('button', { type: 'submit' }, 'Send'),
        element('button', { type: 'button', class: 'quiet', click: close }, 'Leave it'),
      ),
    )
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      if (field.value.trim() === '' || this.#actions.edit(turn, field.value)) close()
    })
    form.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') close()
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault()
        form.requestSubmit()
      }
    })
    this.#said.replaceWith(form)
    this.#tools.hidden = true
    field.focus()
  }
}

function callElement({ name, arguments: args }: ToolCall): HTMLElement {
  return element(
    'details',
    { class: 'call' },
    element('summary', {}, `Calls ${name}`),
    element('pre', {}, pretty(args)),
  )
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), undefined, 2)
  } catch {
    return json
  }
}
