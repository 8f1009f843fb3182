// What the types accept, and what they refuse: compiled by types.test.ts, and never run.

import {
  generate,
  loadModel,
  NodeMlxError,
  RECOMMENDED_MODELS,
  VERSION,
  getVersion,
  isPlatformSupported,
  isSupported,
  type ChatTemplateOptions,
  type Generation,
  type GenerationResult,
  type Message,
  type Model,
  type ModelInfo,
  type Prompt,
} from 'nodemlx'

export async function results(): Promise<void> {
  await using model: Model = await loadModel('demo', { device: 'cpu', dtype: 'float32' })
  const info: ModelInfo = model.info
  const generation: Generation = model.generate('Hi')
  const result: GenerationResult = await generation
  const reason: 'stop' | 'length' | 'tool-calls' | 'abort' = result.finishReason
  const tokens: number[] = result.tokens
  const stopString: string | undefined = result.stopString
  console.log(info.contextLength?.toFixed(), reason, tokens, stopString)

  for await (const chunk of generation) {
    const { tokens, logprobs } = chunk
    console.log(tokens.at(-1)?.toFixed(), logprobs?.[0]?.top[0]?.logprob.toFixed(2))
    switch (chunk.type) {
      case 'text':
      case 'reasoning':
        console.log(chunk.text.trim())
        break
      case 'tool-call-start':
        console.log(chunk.index.toFixed(), chunk.id.trim(), chunk.name.trim())
        break
      case 'tool-call-delta':
        console.log(chunk.argumentsText.trim())
        break
      case 'tool-call-end':
        console.log(chunk.arguments['city'])
        break
      case 'tool-call-invalid':
        console.log(chunk.raw.trim(), chunk.error.trim())
        break
      case 'object':
        console.log(chunk.object)
    }
    // @ts-expect-error -- a call has no text
    console.log(chunk.text)
  }
  const hold = async (): Promise<{ generation: Generation }> => Promise.resolve({ generation })
  const held: GenerationResult = await (await hold()).generation.result
  const total: number = held.usage.totalTokens
  console.log(total)
  for await (const text of generation.textStream) console.log(text.trim())
  for await (const { type } of generation.stream) console.log(type.trim())
  const response = new Response(generation.textStream.pipeThrough(new TextEncoderStream()))
  const caught: GenerationResult | 'failed' = await generation.catch(() => 'failed' as const)
  console.log(response.ok, caught)

  const once: Generation = generate('demo', 'Hi', { device: 'cpu', maxTokens: 5 })
  const { data, shape } = await model.logits(await model.tokenize((await once).text))
  const row: Float32Array = data.subarray(0, shape[1])
  const alias: string = RECOMMENDED_MODELS.llama
  console.log(row, alias, VERSION, getVersion(), isPlatformSupported(), isSupported())

  // @ts-expect-error -- null is no reason
  const none: null = result.finishReason
  // @ts-expect-error -- there are two dimensions
  console.log(none, shape[2])
}

export function prompts(model: Model): void {
  const messages: Message[] = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
    {
      role: 'assistant',
      tool_calls: [{ function: { name: 'f', arguments: { x: 1 } } }],
      reasoning_content: 'hm',
    },
    { role: 'tool', tool_call_id: '1', content: '2' },
  ]
  const all: Prompt[] = [
    'Hi',
    messages,
    { text: 'Hi' },
    { tokens: [1, 2] },
    { tokens: new Uint32Array(2) },
  ]
  for (const prompt of all) model.generate(prompt)
  const fixed = [{ role: 'user', content: 'Hi' }] as const
  model.generate(fixed)
  // Options that come from elsewhere may be undefined.
  const options: { seed?: number } = {}
  model.generate('Hi', { seed: options.seed, signal: undefined })
  model.generate('Hi', { stop: 'END', logprobs: true, penaltyContextSize: 64 })
  model.generate('Hi', { stop: ['a', 'b'] as const, logprobs: 5 })
  const template: ChatTemplateOptions = {
    tools: [{ type: 'function', function: { name: 'f' } }],
    documents: [{ title: 'a' }],
    templateVariables: { enable_thinking: false },
    chatTemplate: '{{ messages }}',
    continueFinalMessage: true,
  }
  model.generate(messages, { ...template, maxTokens: 5 })
  void model.applyChatTemplate(messages, template)

  // @ts-expect-error -- a number is no prompt
  model.generate(42)
  // @ts-expect-error -- one message is no conversation
  model.generate({ role: 'user', content: 'Hi' })
  // @ts-expect-error -- tokens are numbers
  model.generate({ tokens: ['a'] })
  // @ts-expect-error -- a message has a role
  model.generate([{ content: 'Hi' }])
  // @ts-expect-error -- content is text or parts
  model.generate([{ role: 'user', content: 5 }])
}

export async function mistakes(model: Model): Promise<void> {
  // @ts-expect-error -- no such option
  model.generate('Hi', { max_tokens: 5 })
  // @ts-expect-error -- a string is no number
  model.generate('Hi', { temperature: '0.7' })
  // @ts-expect-error -- stop strings are text
  model.generate('Hi', { stop: 5 })
  // @ts-expect-error -- template options are no bag
  model.generate('Hi', { chatTemplateOptions: {} })
  // @ts-expect-error -- the controller is not its signal
  model.generate('Hi', { signal: new AbortController() })
  // @ts-expect-error -- no such device
  await loadModel('demo', { device: 'metal' })
  // @ts-expect-error -- generate has it, loadModel has not
  await loadModel('demo', { temperature: 1 })
  // @ts-expect-error -- a model is named
  await loadModel()
  // @ts-expect-error -- facts do not change
  model.info.layers = 5
  // @ts-expect-error -- a generation is no result
  console.log(model.generate('Hi').text)
  // @ts-expect-error -- an alias that nobody knows
  console.log(RECOMMENDED_MODELS.nosuch)
  generate('demo', 'Hi', {
    device: 'cpu',
    maxTokens: 5,
    onProgress: ({ loadedBytes }) => loadedBytes,
  })
  // @ts-expect-error -- no such option
  generate('demo', 'Hi', { devise: 'cpu' })
}

export function errors(error: unknown): string {
  if (!(error instanceof NodeMlxError)) return 'another'
  const option: string | undefined = error.option
  if (error.code === 'MODEL_NOT_FOUND') return 'no model'
  // Codes that are not known yet can be compared with, too.
  if (error.code === 'NOT_KNOWN_YET') return 'later'
  return option ?? error.message
}
