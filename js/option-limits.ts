// Made of the addon's table (src/ranges.rs) by
// WRITE_TABLES=1 cargo test --lib javascript_has_the_same_limits

/** What the numbers among the options of a generation may be. */
export const OPTION_LIMITS = {
  maxTokens: { whole: true, min: 1, max: 2147483647 },
  temperature: { min: 0, max: 10 },
  topP: { above: 0, max: 1 },
  topK: { whole: true, min: 0, max: 2147483647 },
  minP: { min: 0, max: 1 },
  xtcProbability: { min: 0, max: 1 },
  xtcThreshold: { min: 0, max: 0.5 },
  seed: { whole: true, min: 0, max: 9007199254740991 },
  repetitionPenalty: { above: 0, max: 10 },
  presencePenalty: { min: -2, max: 2 },
  frequencyPenalty: { min: -2, max: 2 },
  penaltyContextSize: { whole: true, min: 1, max: 2147483647 },
  logprobs: { whole: true, min: 0, max: 20 },
  priority: { whole: true, min: -1000, max: 1000 },
  maxKvSize: { whole: true, min: 16, max: 2147483647 },
  kvBits: { choices: [4, 8] },
  kvGroupSize: { choices: [32, 64, 128] },
  logitBias: { min: -100, max: 100 },
} as const
