type Labels = Readonly<Record<string, string>>

/** Seconds, from a token to a long answer. */
const BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

/** A number by labels that only grows. */
class Counter {
  readonly #values = new Map<string, number>()

  constructor(
    readonly name: string,
    readonly help: string,
  ) {}

  add(amount: number, labels: Labels = {}): void {
    const key = labelText(labels)
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount)
  }

  lines(): string[] {
    return [
      ...head(this.name, this.help, 'counter'),
      ...[...this.#values].map(([labels, value]) => `${this.name}${labels} ${value}`),
    ]
  }
}

/** How often a time was at most so long. */
class Histogram {
  readonly #counts = BUCKETS.map(() => 0)
  #count = 0
  #sum = 0

  constructor(
    readonly name: string,
    readonly help: string,
  ) {}

  observe(seconds: number): void {
    this.#count++
    this.#sum += seconds
    BUCKETS.forEach((limit, index) => {
      if (seconds <= limit) this.#counts[index] = (this.#counts[index] ?? 0) + 1
    })
  }

  lines(): string[] {
    return [
      ...head(this.name, this.help, 'histogram'),
      ...BUCKETS.map(
        (limit, index) => `${this.name}_bucket{le="${limit}"} ${this.#counts[index] ?? 0}`,
      ),
      `${this.name}_bucket{le="+Inf"} ${this.#count}`,
      `${this.name}_sum ${this.#sum}`,
      `${this.name}_count ${this.#count}`,
    ]
  }
}

/** What is now: name, help, and values by labels. */
export type Gauge = readonly [string, string, readonly (readonly [Labels, number])[]]

/** What the server has done, and what it does now. */
export class Metrics {
  readonly requests = new Counter('nodemlx_requests_total', 'Requests by route and status.')
  readonly promptTokens = new Counter('nodemlx_prompt_tokens_total', 'Tokens of prompts.')
  readonly cachedTokens = new Counter(
    'nodemlx_cached_tokens_total',
    'Tokens of prompts that did not have to be read again.',
  )
  readonly generatedTokens = new Counter('nodemlx_generated_tokens_total', 'Generated tokens.')
  readonly aborted = new Counter(
    'nodemlx_aborted_total',
    'Generations that ended because nobody waited for them.',
  )
  readonly firstToken = new Histogram(
    'nodemlx_time_to_first_token_seconds',
    'From the start of a generation to its first token.',
  )
  readonly duration = new Histogram(
    'nodemlx_generation_seconds',
    'From the start of a generation to its end.',
  )

  /** Prometheus's text format (version 0.0.4). */
  text(gauges: readonly Gauge[]): string {
    const own = [
      this.requests,
      this.promptTokens,
      this.cachedTokens,
      this.generatedTokens,
      this.aborted,
      this.firstToken,
      this.duration,
    ].flatMap((metric) => metric.lines())
    const now = gauges.flatMap(([name, help, values]) => [
      ...head(name, help, 'gauge'),
      ...values.map(([labels, value]) => `${name}${labelText(labels)} ${value}`),
    ])
    return `${[...own, ...now].join('\n')}\n`
  }
}

function head(name: string, help: string, type: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`]
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => {
    const escaped = value
      .replaceAll('\\', String.raw`\\`)
      .replaceAll('"', String.raw`\"`)
      .replaceAll('\n', String.raw`\n`)
    return `${name}="${escaped}"`
  })
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}
