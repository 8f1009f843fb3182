import { describe, expect, it } from 'vitest'
import type { NodeMlxError } from '../js/errors.js'
import { LoadedModel } from '../js/model.js'
import { chatTemplateOptions } from '../js/options.js'
import type { ChatTemplateOptions, ModelInfo, Prompt } from '../js/types.js'
import { FakeModel, fakeInfo, words } from './support/fake-native.js'

/** What the engine gets for a prompt. */
function engineGets(prompt: Prompt, info: Partial<ModelInfo> = {}, options?: ChatTemplateOptions) {
  const native = new FakeModel(fakeInfo(info), () => words('ok'))
  new LoadedModel(native).generate(prompt, options)
  const sent = native.generations[0]?.request.prompt
  if (sent?.messagesJson === undefined) return sent
  return {
    messages: JSON.parse(sent.messagesJson) as unknown,
    options: JSON.parse(sent.templateOptionsJson ?? '') as unknown,
  }
}

function refusal(prompt: unknown): { code: string; option: string | undefined; message: string } {
  try {
    engineGets(prompt as Prompt)
  } catch (error) {
    const { code, option, message } = error as NodeMlxError
    return { code, option, message }
  }
  throw new Error('nothing was refused')
}

const TEMPLATE = { addGenerationPrompt: true, continueFinalMessage: false }

describe('a prompt', () => {
  it('that is a string is a message of the user', () => {
    expect(engineGets('Hi')).toEqual({
      messages: [{ role: 'user', content: 'Hi' }],
      options: TEMPLATE,
    })
  })

  it('that is a string is continued as it is where there is no chat template', () => {
    expect(engineGets('Hi', { hasChatTemplate: false })).toEqual({ text: 'Hi' })
  })

  it('that is a string goes through a template that is given with it', () => {
    const template = '{{ messages[0].content }}'
    expect(engineGets('Hi', { hasChatTemplate: false }, { chatTemplate: template })).toMatchObject({
      options: { template },
    })
  })

  it('of text or tokens goes to the engine as it is', () => {
    expect(engineGets({ text: ' <s>Hi' })).toEqual({ text: ' <s>Hi' })
    for (const tokens of [[1, 2, 99], Uint32Array.of(1, 2, 99), { length: 3, 0: 1, 1: 2, 2: 99 }]) {
      expect(engineGets({ tokens })).toEqual({ tokens: Uint32Array.of(1, 2, 99) })
    }
  })

  it('of text says which special tokens it wants', () => {
    for (const addSpecialTokens of [true, false])
      expect(engineGets({ text: 'Hi', addSpecialTokens })).toEqual({ text: 'Hi', addSpecialTokens })
    expect(engineGets({ text: 'Hi', addSpecialTokens: undefined })).toEqual({ text: 'Hi' })
  })

  it('of messages keeps every field', () => {
    const messages = [
      { role: 'system', content: 'Be brief. 🙂' },
      { role: 'user', content: [{ type: 'text' as const, text: 'Weather?' }], name: 'someone' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [
          {
            id: '1',
            type: 'function' as const,
            function: { name: 'weather', arguments: { at: ['Rome', 1] } },
          },
        ],
      },
      { role: 'tool', tool_call_id: '1', content: '{"degrees": 20}' },
      { role: 'assistant', content: '', reasoning_content: 'hm' },
    ]
    expect(engineGets(messages)).toEqual({ messages, options: TEMPLATE })
  })

  it('that goes on with the last message opens no new one', () => {
    const messages = [{ role: 'assistant', content: 'Once' }]
    expect(engineGets(messages, {}, { continueFinalMessage: true })).toMatchObject({
      options: { addGenerationPrompt: false, continueFinalMessage: true },
    })
  })

  it('keeps a field called __proto__ a field', () => {
    const message = JSON.parse('{"role":"user","content":"x","__proto__":{"a":1}}') as {
      role: string
      content: string
    }
    const sent = JSON.stringify(engineGets([message]))
    expect(sent).toContain('"__proto__":{"a":1}')
  })

  it.each<[unknown, string, RegExp]>([
    ['', 'prompt', /is empty/],
    ['a\uDC00b', 'prompt', /lone surrogate.*position 1/],
    [undefined, 'prompt', /expected a string, an array of messages.*got undefined/],
    [null, 'prompt', /got null/],
    [42, 'prompt', /got 42/],
    [{}, 'prompt', /nothing in it/],
    [{ text: 'a', tokens: [1] }, 'prompt', /with text, tokens/],
    [{ txt: 'a' }, 'prompt', /with txt/],
    [{ text: 'a', addSpecialTokens: 1 }, 'prompt.addSpecialTokens', /true or false, got 1/],
    [{ tokens: [1], addSpecialTokens: true }, 'prompt', /with tokens, addSpecialTokens/],
    [{ text: '' }, 'prompt.text', /is empty/],
    [{ text: 5 }, 'prompt.text', /expected a string/],
    [{ tokens: [] }, 'prompt.tokens', /is empty/],
    [{ tokens: '123' }, 'prompt.tokens', /an array of tokens, got "123"/],
    [{ tokens: [1, 100] }, 'prompt.tokens[1]', /from 0 to 99, got 100/],
    [{ tokens: [-1] }, 'prompt.tokens[0]', /got -1/],
    [{ tokens: [1.5] }, 'prompt.tokens[0]', /got 1.5/],
    [{ tokens: [1n] }, 'prompt.tokens[0]', /bigint/],
    [{ tokens: [1, , 2] }, 'prompt.tokens[1]', /got undefined/], // eslint-disable-line no-sparse-arrays
    [{ tokens: new DataView(new ArrayBuffer(4)) }, 'prompt.tokens', /DataView/],
    [{ role: 'user', content: 'x' }, 'prompt', /single message; put it in an array/],
    [{ messages: [] }, 'prompt', /the array of messages itself/],
    [[], 'prompt', /at least one message/],
    [['Hi'], 'prompt[0]', /a message such as/],
    [[{ content: 'x' }], 'prompt[0].role', /got undefined/],
    [[{ rol: 'user', content: 'x' }], 'prompt[0].role', /did you mean role where rol is/],
    [[{ role: 'asistant', content: 'x' }], 'prompt[0].role', /did you mean 'assistant'/],
    [[{ role: 'user' }], 'prompt[0].content', /expected a string, got undefined/],
    [[{ role: 'user', content: 5 }], 'prompt[0].content', /got 5/],
    [[{ role: 'user', content: '\uD83D' }], 'prompt[0].content', /lone surrogate/],
    [[{ role: 'user', content: ['x'] }], 'prompt[0].content[0]', /a part such as/],
    [
      [{ role: 'user', content: [{ type: 'text' }] }],
      'prompt[0].content[0].text',
      /expected a string/,
    ],
    [
      [{ role: 'assistant', tool_calls: {} }],
      'prompt[0].content',
      /only a message with tool_calls/,
    ],
    [[{ role: 'user', content: 'x', tool_calls: 'y' }], 'prompt[0].tool_calls', /an array/],
    [
      [{ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: 5 } }] }],
      'prompt[0].tool_calls[0].function.arguments',
      /expected an object or its JSON text, got 5/,
    ],
    [
      [{ role: 'assistant', content: '', toolCalls: [] }],
      'prompt[0].toolCalls',
      /did you mean tool_calls/,
    ],
    [
      [{ role: 'user', content: 'x', extra: Number.NaN }],
      'prompt[0].extra',
      /cannot be written as JSON: NaN/,
    ],
    [[{ role: 'user', content: 'x', extra: new Map() }], 'prompt[0].extra', /Map/],
    [[{ role: 'user', content: 'x', extra: () => 1 }], 'prompt[0].extra', /a function/],
    [
      [{ role: 'user', content: 'x', extra: { deep: ['\uD800'] } }],
      'prompt[0].extra.deep[0]',
      /lone surrogate/,
    ],
  ])('%o is refused', (prompt, option, says) => {
    const error = refusal(prompt)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', option })
    expect(error.message).toMatch(says)
  })

  it.each<[unknown]>([
    [[{ role: 'User', content: 'x' }]],
    [[{ role: 'tools', content: '[]' }]],
    [[{ role: 'tool', content: null, tool_call_id: '1' }]],
    [[{ role: 'tool', content: { degrees: 20 } }]],
    [[{ role: 'assistant', content: null, reasoning_content: 'hm' }]],
    [[{ role: 'assistant', content: [{ type: 'thinking', thinking: 'hm' }] }]],
    [[{ role: 'user', content: [{ type: 'tool_reference', tool_name: 'f' }] }]],
  ])('%o is for the template to judge', (prompt) => {
    expect(engineGets(prompt as Prompt)).toHaveProperty('messages', prompt)
  })

  it('goes to the template with a time and the field to continue', () => {
    const now = new Date(2025, 11, 31, 23, 59, 58)
    const options = { now, continueFinalMessage: true, continueField: 'reasoning_content' }
    const messages = [{ role: 'user', content: 'x' }]
    expect(engineGets(messages, {}, options)).toMatchObject({
      options: { now: '2025-12-31T23:59:58', continueField: 'reasoning_content' },
    })
    expect(engineGets(messages, {}, { now: now.getTime() })).toMatchObject({
      options: { now: '2025-12-31T23:59:58' },
    })
  })

  it.each<[object, string, RegExp]>([
    [{ now: new Date('never') }, 'now', /expected a Date or a time/],
    [{ now: '2025-12-31' }, 'now', /got "2025-12-31"/],
    [{ continueField: 'thinking' }, 'continueField', /without continueFinalMessage/],
    [
      { templateVariables: { messages: [] } },
      'templateVariables.messages',
      /the messages themselves/,
    ],
    [{ templateVariables: { tools: [] } }, 'templateVariables.tools', /the option tools/],
    [
      { templateVariables: { add_generation_prompt: false } },
      'templateVariables.add_generation_prompt',
      /option/,
    ],
  ])('with the template options %o is refused', (options, option, says) => {
    const refused = () => chatTemplateOptions(options)
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', option }))
    expect(refused).toThrow(says)
  })

  it('that contains itself is refused', () => {
    const message: Record<string, unknown> = { role: 'user', content: 'x' }
    message['self'] = message
    expect(refusal([message]).message).toMatch(/\]\.self: contains itself$/)
  })

  it('with images is refused as unsupported', () => {
    const image = { type: 'image_url', image_url: { url: 'data:,' } }
    expect(refusal([{ role: 'user', content: [image] }])).toMatchObject({
      code: 'UNSUPPORTED',
      option: 'prompt[0].content[0]',
    })
  })

  it('with template options but no template is refused', () => {
    expect(() => engineGets('Hi', { hasChatTemplate: false }, { tools: [] })).toThrow(
      expect.objectContaining({ code: 'NO_CHAT_TEMPLATE', option: 'tools' }),
    )
  })
})
