// What tests of chats have in common.

import { afterAll, beforeAll } from 'vitest'
import { loadModel } from '../../js/index.js'
import type { Chat, ChatOptions, Model } from '../../js/types.js'

/** What a model is told of the tool that the demo model has learnt to call. */
export const WEATHER = {
  name: 'get_weather',
  description: 'Get the weather in a city',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'The name of the city' } },
    required: ['city'],
  },
}

/** The demo model, which is there while the tests of a file run. */
export interface DemoChats {
  readonly model: Model
  /** A chat with short, greedy answers, unless the options say otherwise. */
  chat: (options?: ChatOptions) => Chat
}

/** To be called once in a file. */
export function demoChats(): DemoChats {
  let model: Model
  beforeAll(async () => {
    model = await loadModel('demo')
  })
  afterAll(async () => {
    await model.dispose()
  })
  return {
    get model() {
      return model
    },
    chat: (options = {}) => model.chat({ temperature: 0, maxTokens: 60, ...options }),
  }
}
