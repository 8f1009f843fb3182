import type { SourceEnd } from './generation.js'

/** What the rounds of an answer come to together. */
export class ChatTotals {
  readonly #rounds: SourceEnd[] = []
  readonly #began = performance.now()

  add(round: SourceEnd): void {
    this.#rounds.push(round)
  }

  /** The end of the answer, which is `last` in all that does not add up. */
  end(last: SourceEnd): SourceEnd {
    if (this.#rounds.length === 0) return last
    const sum = (of: (round: SourceEnd) => number | undefined): number =>
      this.#rounds.reduce((total, round) => total + (of(round) ?? 0), 0)
    /** Of what was done at several rates, that of all of it. */
    const rate = (
      count: (round: SourceEnd) => number,
      per: (round: SourceEnd) => number,
    ): number => {
      const timed = (round: SourceEnd): boolean => per(round) > 0
      const seconds = sum((round) => (timed(round) ? count(round) / per(round) : 0))
      return seconds > 0 ? sum((round) => (timed(round) ? count(round) : 0)) / seconds : 0
    }
    const isOne = this.#rounds.length === 1 && this.#rounds[0] === last
    const warnings = new Set(this.#rounds.flatMap((round) => Array.from(round.warnings ?? [])))
    const speculated = this.#rounds.filter(({ speculation }) => speculation !== undefined)
    return {
      ...last,
      usage: {
        promptTokens: sum(({ usage }) => usage.promptTokens),
        completionTokens: sum(({ usage }) => usage.completionTokens),
        cachedTokens: sum(({ usage }) => usage.cachedTokens),
        reasoningTokens: sum(({ usage }) => usage.reasoningTokens),
      },
      ...(warnings.size === 0 ? {} : { warnings: [...warnings] }),
      timings: {
        queueMs: sum(({ timings }) => timings.queueMs),
        prepareMs: sum(({ timings }) => timings.prepareMs),
        prefillMs: sum(({ timings }) => timings.prefillMs),
        timeToFirstTokenMs: this.#rounds[0]?.timings.timeToFirstTokenMs ?? 0,
        promptTokensPerSecond: rate(
          ({ usage }) => usage.promptTokens - usage.cachedTokens,
          ({ timings }) => timings.promptTokensPerSecond,
        ),
        tokensPerSecond: rate(
          ({ usage }) => usage.completionTokens,
          ({ timings }) => timings.tokensPerSecond,
        ),
        // With what tools took.
        totalMs: isOne ? last.timings.totalMs : performance.now() - this.#began,
      },
      ...(speculated.length === 0
        ? {}
        : {
            speculation: {
              drafted: sum(({ speculation }) => speculation?.drafted),
              accepted: sum(({ speculation }) => speculation?.accepted),
              steps: sum(({ speculation }) => speculation?.steps),
            },
          }),
      peakMemoryBytes: Math.max(...this.#rounds.map(({ peakMemoryBytes }) => peakMemoryBytes)),
    }
  }
}
