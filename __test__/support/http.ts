import { createHandler, type Handler, type HandlerOptions } from '../../js/server/index.js'

/** The JSON of a response, for tests to look into. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests say what they expect
export type Json = any

/** A handler and short ways of asking it. */
export class Client {
  readonly handler: Handler

  constructor(options: Partial<HandlerOptions> = {}) {
    this.handler = createHandler({ models: ['demo'], ...options })
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Response> {
    return this.handler(new Request(`http://localhost${path}`, { headers }))
  }

  post(
    path: string,
    body: unknown,
    { headers = {}, ...init }: { headers?: Record<string, string>; signal?: AbortSignal } = {},
  ): Promise<Response> {
    const text = typeof body === 'string' || body instanceof Uint8Array ? body : undefined
    return this.handler(
      new Request(`http://localhost${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: (text as string | undefined) ?? JSON.stringify(body),
        ...init,
      }),
    )
  }
}

/** The events of a stream: their names, and their data as JSON where it is some. */
export function events(text: string): { event: string | undefined; data: Json }[] {
  return text
    .split('\n\n')
    .filter((block) => block !== '' && !block.startsWith(':'))
    .map((block) => {
      const event = /^event: (.*)$/m.exec(block)?.[1]
      const data = /^data: (.*)$/m.exec(block)?.[1] ?? ''
      return { event, data: data.startsWith('{') ? JSON.parse(data) : data }
    })
}
