import { adapterPart } from './adapter.js'
import { invalidArgument } from './errors.js'
import { withTokens } from './embed.js'
import type { NativeJudgements, NativeJudgeRequest, NativeScores } from './native.js'
import { decideOrder, decision, type ScoreOrder } from './score.js'
import type { ModelInfo, Ranking, Rankings, RerankOptions } from './types.js'
import { arrayOf, string } from './validate.js'

/** What the addon is asked for, without the number of the evaluation. */
type JudgeOrder = Omit<NativeJudgeRequest, 'evaluation'>

/** How well documents fit, in their order. */
interface Judgements extends Pick<NativeJudgements, 'tokens'> {
  scores: ArrayLike<number>
}

/** What a model that writes answers about a document. */
const ANSWERS = ['yes', 'no'] as const

/** The instruction that Qwen3-Reranker was trained with. */
const INSTRUCTION = 'Given a web search query, retrieve relevant passages that answer the query'

/** The documents of `model.rerank`. */
export const checkDocuments = arrayOf(string, 'an array of strings')

/** The order of `model.rerank`, where the model has a classifier. */
export function judgeOrder(query: string, documents: string[], options: RerankOptions): JudgeOrder {
  if (options.instruction !== undefined)
    throw invalidArgument('instruction', 'has no effect: this reranker takes none')
  return { query, documents, truncate: options.truncate ?? false, ...adapterPart(options) }
}

/** The orders of `model.rerank`, one for each document, where the model writes. */
export function answerOrders(
  query: string,
  documents: readonly string[],
  { instruction, truncate, adapter }: RerankOptions,
  info: ModelInfo,
): ScoreOrder[] {
  if (truncate === true)
    throw invalidArgument('truncate', 'has no effect: this model reads whole documents')
  const options = {
    ...(adapter === undefined ? {} : { adapter }),
    templateVariables: { enable_thinking: false },
    // What a document spells out must not end it.
    splitSpecialTokens: true,
  }
  return documents.map((document) =>
    decideOrder(question(query, document, instruction), ANSWERS, options, info),
  )
}

/** Runs the orders one after the other; a document's score is how likely the model says yes. */
export async function answered(
  orders: readonly ScoreOrder[],
  run: (order: ScoreOrder) => Promise<NativeScores>,
): Promise<Judgements> {
  const scores: number[] = []
  let tokens = 0
  for (const order of orders) {
    const likely = await run(order)
    scores.push(decision(ANSWERS, likely).probabilities.yes)
    tokens += likely.promptTokens
  }
  return { scores, tokens }
}

/** What `model.rerank` gives: the best first, and of equals the one that was given first. */
export function rankings(
  { scores, tokens }: Judgements,
  topN = Number.POSITIVE_INFINITY,
): Rankings {
  const all: Ranking[] = Array.from(scores, (score, index) => ({ index, score }))
  all.sort((a, b) => b.score - a.score)
  return withTokens(all.slice(0, topN), tokens)
}

/** What a model that writes is asked about a document, as Qwen3-Reranker was trained. */
function question(
  query: string,
  document: string,
  instruction = INSTRUCTION,
): { role: 'system' | 'user'; content: string }[] {
  return [
    {
      role: 'system',
      content:
        'Judge whether the Document meets the requirements based on the Query and the Instruct ' +
        'provided. Note that the answer can only be "yes" or "no".',
    },
    {
      role: 'user',
      content: `<Instruct>: ${instruction}\n<Query>: ${query}\n<Document>: ${document}`,
    },
  ]
}
